"""Pretrain the mini suite's start model on captioned pictures of other worlds (docs/mini.md).

    OMP_NUM_THREADS=1 python scripts/pretrain_mini.py --out robustbench_ft/data/mini-clip.safetensors

Two stages of the project's own loop. First the contrastive loss at half weight plus the cross entropy of a linear
head that names the caption's noun: from scratch and at this size the contrastive loss alone learns style and colour
and leaves the nouns at chance. Then the head is thrown away and the contrastive loss alone trains both towers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from open_clip import ClipLoss
from open_clip.transform import PreprocessCfg
from torch import Tensor
from torch.nn import functional as F

from robustbench_ft.batches import Batch
from robustbench_ft.files import file_digest
from robustbench_ft.losses import contrastive
from robustbench_ft.mini import clip as small
from robustbench_ft.mini.captions import NOUNS, mixture
from robustbench_ft.model import Classifier, Trained
from robustbench_ft.preprocess import Preprocess
from robustbench_ft.train import Recipe, train

BATCH = 128
TEXT_TOWER = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
COMMON = Recipe(
    lr=2.5e-3,
    lr_scale={f"clip.{part}": 0.4 for part in TEXT_TOWER},
    weight_decay=0.05,
    betas=(0.9, 0.98),
    batch_size=BATCH,
    warmup_steps=150,
)


class Pool:
    """The mixture: images moved by up to two pixels, captions as tokens, nouns as labels (-1: no noun)."""

    def __init__(self, name: str, count: int, tokenise: small.WordTokenizer) -> None:
        found = mixture(name, count)
        self.images = torch.from_numpy(found.images).permute(0, 3, 1, 2)
        self.texts, self.nouns = tokenise(list(found.captions)), torch.from_numpy(found.nouns)
        self.epoch = count

    def __len__(self) -> int:
        return self.epoch

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        at = torch.from_numpy(indices)
        down, across = torch.randint(-2, 3, (2,)).tolist()
        return Batch(self.images[at].roll((down, across), (2, 3)), self.nouns[at], self.texts[at])


def with_nouns(model: Classifier, batch: Batch) -> Tensor:
    """Half the contrastive loss plus the cross entropy of the caption's noun, on features before normalisation."""
    assert batch.texts is not None
    features = model.clip.encode_image(model.preprocess.normalise(batch.images))
    texts = model.clip.encode_text(batch.texts, normalize=True)
    pairs: Tensor = ClipLoss()(F.normalize(features, dim=-1), texts, model.clip.logit_scale.exp())
    return 0.5 * pairs + F.cross_entropy(model.classify(features), batch.labels, ignore_index=-1)


def main() -> None:
    """Render the pool, train both stages, write the file and print its hash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=120_000, help="captioned pictures")
    parser.add_argument("--steps", type=int, nargs=2, default=(3200, 2400), help="of the two stages")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    begun = time.monotonic()
    tokenise = small.WordTokenizer()
    pool = Pool(f"pool {given.seed}", given.pool, tokenise)
    print(f"{given.pool} pictures in {time.monotonic() - begun:.0f} s", flush=True)
    preprocess = Preprocess(PreprocessCfg(size=small.IMAGE_SIZE, mean=small.MEAN, std=small.STD))
    nouns = Trained(torch.randn(len(NOUNS), small.EMBED) / small.EMBED**0.5)
    model = Classifier(small.build(), nouns, preprocess, tokenise, origin="pretraining")
    epochs = [steps / -(-given.pool // BATCH) for steps in given.steps]
    first = COMMON.model_copy(update={"epochs": epochs[0], "schedule": "constant"})
    second = COMMON.model_copy(update={"epochs": epochs[1]})
    model = train(model, pool, first, loss=with_nouns, label="stage 1", checkpoint=given.out.with_suffix(".stage1"))
    model = train(
        model,
        pool,
        second,
        loss=contrastive,
        only=("clip",),
        label="stage 2",
        checkpoint=given.out.with_suffix(".stage2"),
    )
    small.save(model.clip, tokenise, given.out)
    for stage in (".stage1", ".stage2"):
        given.out.with_suffix(stage).unlink(missing_ok=True)
    print(f"{given.out}  {file_digest(given.out)}  {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
