"""Data sets of image files with labels in files beside them, small, in their official layouts: GTSRB, Flowers-102, Cars, KITTI.

A writer writes every split. ``SIZES`` says how many images train, val and test of the suite then have. Images are drawn, each
another one, so that a test can tell which was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {
    "gtsrb": (645, 215, 86),
    "flowers102": (204, 204, 306),
    "cars": (3528, 392, 392),
    "kitti": (128, 16, 16),
}
DEPTHS = (5.0, 8.0, 8.01, 20.0, 20.01, 60.0, None, None)
"""Of KITTI: how far the nearest vehicle is in the eight frames of a video; the bounds belong to the nearer class."""


def draw(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> None:
    """An image that its name decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256("/".join(path.parts[-3:]).encode()).digest()[:8])
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def write_gtsrb(root: Path, tracks: int = 4, frames: int = 5, test: int = 2) -> None:
    """``gtsrb``: class folders of tracks of frames with their tables, and ``test`` images a class in another order.

    Beside the test images lies the table without classes that the archive has there.
    """
    base, head = root / "gtsrb" / "GTSRB", "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"
    for label in range(43):
        folder, rows = base / "Training" / f"{label:05d}", [f"{head};ClassId"]
        for track in range(tracks):
            for frame in range(frames):
                draw(folder / f"{track:05d}_{frame:05d}.ppm")
                rows.append(f"{track:05d}_{frame:05d}.ppm;12;10;1;1;11;9;{label}")
        (folder / f"GT-{label:05d}.csv").write_text("\n".join(rows) + "\n")
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(43), test)).tolist()
    names = [f"{k:05d}.ppm" for k in range(len(labels))]
    for name in names:
        draw(base / "Final_Test" / "Images" / name)
    rows = [f"{name};12;10;1;1;11;9" for name in names]
    (base / "Final_Test" / "Images" / "GT-final_test.test.csv").write_text("\n".join([head, *rows]) + "\n")
    told = [f"{row};{label}" for row, label in zip(rows, labels, strict=True)]
    (root / "gtsrb" / "GT-final_test.csv").write_text("\r\n".join([f"{head};ClassId", *told]) + "\r\n")


def write_flowers102(root: Path, train: int = 2, val: int = 2, test: int = 3) -> None:
    """``flowers-102``: images, ``imagelabels.mat``, ``setid.mat`` with the official keys; images a class."""
    from scipy.io import savemat

    folder, draws = root / "flowers-102", np.random.default_rng(2)
    labels = np.repeat(np.arange(1, 103), train + val + test)
    numbers = {key: np.zeros(0, int) for key in ("trnid", "valid", "tstid")}
    for label in range(1, 103):
        own = draws.permutation(np.flatnonzero(labels == label) + 1)
        for key, part in zip(numbers, np.split(own, [train, train + val]), strict=True):
            numbers[key] = np.concatenate([numbers[key], part])
    for number in range(1, len(labels) + 1):
        draw(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": labels.astype(np.uint8)[None]})
    savemat(folder / "setid.mat", {key: part.astype(np.uint16)[None] for key, part in numbers.items()})


def write_cars(root: Path, train: int = 20, test: int = 2) -> None:
    """``stanford_cars``: two folders of images, the devkit and the test labels from elsewhere; images a class.

    The devkit's own annotations of the test set have no classes, as in the archive. Some images are grey.
    """
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    for split, per_class, seed in (("train", train, 3), ("test", test, 4)):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(1, 197), per_class)).tolist()
        names = [f"{k + 1:05d}.jpg" for k in range(len(labels))]
        for k, name in enumerate(names):
            draw(base / f"cars_{split}" / name, mode="L" if k % 50 == 7 else "RGB")
        answers = base / ("devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat")
        annotations(answers, names, labels)
        if split == "test":
            annotations(base / "devkit" / "cars_test_annos.mat", names, None)


def annotations(path: Path, names: Sequence[str], labels: Sequence[int] | None) -> None:
    """A file of annotations as the devkit has it: boxes, classes where told, file names."""
    from scipy.io import savemat

    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *(["class"] if labels else []), "fname"]
    rows = np.zeros((1, len(names)), dtype=[(field, object) for field in fields])
    for k, name in enumerate(names):
        box = [np.uint16(value) for value in (1, 1, 12, 10)]
        rows[0, k] = tuple([*box, *([np.uint8(labels[k])] if labels else []), name])
    savemat(path, {"annotations": rows})


def write_kitti(root: Path, videos: int = 20) -> None:
    """``kitti/raw``: eight frames of each video in a shuffled order, the labels of ``DEPTHS``, and the devkit's mapping.

    Pedestrians and regions that nobody labelled stand nearer than any vehicle, and a vehicle farther than the nearest.
    """
    base, order = root / "kitti" / "raw", np.random.default_rng(5).permutation(videos * len(DEPTHS))
    (base / "devkit" / "mapping").mkdir(parents=True)
    (base / "training" / "label_2").mkdir(parents=True)
    lines = [f"2011_09_26 2011_09_26_drive_{v:04d}_sync {f:010d}" for v in range(videos) for f in range(len(DEPTHS))]
    (base / "devkit" / "mapping" / "train_mapping.txt").write_text("\n".join(lines) + "\n")
    (base / "devkit" / "mapping" / "train_rand.txt").write_text(",".join(str(k + 1) for k in order.tolist()))
    for number, line in enumerate(order.tolist()):
        draw(base / "training" / "image_2" / f"{number:06d}.png", (62, 18))
        depth = DEPTHS[line % len(DEPTHS)]
        objects = [thing("Pedestrian", 3.0), thing("DontCare", -1000.0)]
        objects += [] if depth is None else [thing("Car", depth + 30), thing("Truck" if line % 2 else "Van", depth)]
        (base / "training" / "label_2" / f"{number:06d}.txt").write_text("\n".join(objects) + "\n")


def thing(kind: str, z: float) -> str:
    """A line of a file of objects; x and y are of no concern."""
    return f"{kind} 0.00 0 -1.57 10.00 5.00 30.00 15.00 1.65 1.67 3.64 -0.65 1.71 {z:.2f} -1.59"


WRITERS = {"gtsrb": write_gtsrb, "flowers102": write_flowers102, "cars": write_cars, "kitti": write_kitti}
