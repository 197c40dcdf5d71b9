"""The embedded suite: generated images, a small CLIP and what it was pretrained on."""
