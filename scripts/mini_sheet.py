"""Draw the contact sheet of docs/mini.md: some images of every split of a world, and of the pretraining mixture.

python scripts/mini_sheet.py --world 0 --out docs/mini.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from robustbench_ft.mini.captions import mixture
from robustbench_ft.mini.world import CLASSES, render

SPLITS = ("train", "test", "v2", "sketch", "rendition", "objectnet", "a-pool")
SCALE, GAP, MARGIN = 2, 2, 76


def tile(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One row, uint8 `[36, W, 3]`, from images `[N, 32, 32, 3]`, with a white gap around each."""
    framed = np.pad(images, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def main() -> None:
    """Write the sheet: two rows a split, one image of each class a row, and two rows of pretraining."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    classes = len(CLASSES)
    rows, names = [], []
    for name in (*SPLITS, "pretraining"):
        count = range(2 * classes)
        images = mixture("sheet", len(count)).images if name == "pretraining" else render(given.world, name, count).images
        rows += [tile(images[:classes]), tile(images[classes:])]
        names.append(name)
    picture = Image.fromarray(np.concatenate(rows)).resize((rows[0].shape[1] * SCALE, len(rows) * 36 * SCALE), 0)
    sheet = Image.new("RGB", (picture.width + MARGIN, picture.height), "white")
    sheet.paste(picture, (MARGIN, 0))
    for k, name in enumerate(names):
        ImageDraw.Draw(sheet).text((4, k * 72 * SCALE + 64), name, fill="black")
    sheet.quantize(256, dither=Image.Dither.NONE).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
