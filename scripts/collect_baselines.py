"""Collect the pools of the baselines imagenet-testbed@1 and cifar10-recht@1 from their authors' published files.

    python scripts/collect_baselines.py --data DIR

DIR holds `imagenet-testbed/` (`robustness_top1s.csv` and `model_types.json` of modestyachts/imagenet-testbed),
`cifar10.1/` (labels and `predictions/` of modestyachts/CIFAR-10.1) and `answer-keys/` (the labels of the CIFAR-10 test
set). Every percentage is turned back into the count of right answers that it was printed from; one that is no whole
count is refused. Only counts are kept: the lines are fitted when they are asked for.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from robustbench_ft.baselines import BASELINES, Baseline, Reference
from robustbench_ft.errors import DataError
from robustbench_ft.records import Accuracy, Counts

TESTBED = "modestyachts/imagenet-testbed@0170eec robustness_top1s.csv, models tagged standard in model_types.json"
RECHT = "modestyachts/CIFAR-10.1: predictions of 26 classifiers on CIFAR-10, CIFAR-10.1 v6 and v4, scored against the labels"
OUTSIDE = ("aws", "batch64", "subsample")
"""Trained the standard way, but on fewer data or with another batch size: no part of the authors' line."""
COLUMNS = {
    "imagenet-val": ("val", 50_000),
    "imagenet-v2": ("imagenetv2-matched-frequency-format-val", 10_000),
    "imagenet-v2-original-encoding": ("imagenetv2-matched-frequency", 10_000),
    "imagenet-v2-threshold-0.7": ("imagenetv2-threshold-0.7-format-val", 10_000),
    "imagenet-v2-top-images": ("imagenetv2-top-images-format-val", 10_000),
    "imagenet-r": ("imagenet-r", 30_000),
    "imagenet-sketch": ("imagenet-sketch", 50_889),
    "objectnet": ("objectnet-1.0-beta", 18_514),
    "imagenet-a": ("imagenet-a", 7_500),
    "imagenet-vid-robust-pm0": ("imagenet-vid-robust_pm0", 1_109),
    "imagenet-vid-robust-pm10": ("imagenet-vid-robust_pm10", 1_109),
    "ytbb-robust-pm0": ("ytbb-robust_pm0", 2_030),
    "ytbb-robust-pm10": ("ytbb-robust_pm10", 2_030),
    "imagenet-val/imagenet-r": ("val-on-imagenet-r-classes", 10_000),
    "imagenet-val/objectnet": ("val-on-objectnet-classes", 6_250),
    "imagenet-val/imagenet-a": ("val-on-imagenet-a-classes", 10_000),
    "imagenet-val/imagenet-vid-robust-pm0": ("val-on-vid-robust-classes", 14_400),
    "imagenet-val/imagenet-vid-robust-pm10": ("val-on-vid-robust-classes", 14_400),
    "imagenet-val/ytbb-robust-pm0": ("val-on-ytbb-robust-classes", 11_550),
    "imagenet-val/ytbb-robust-pm10": ("val-on-ytbb-robust-classes", 11_550),
}
"""Test set, or ID set on a shift's classes: the testbed's column, and its number of images or anchors."""
SETS = {"cifar10": "original", "cifar10.1": "v6", "cifar10.1-v4": "v4"}
SLACK = 0.01
"""How far from a whole number a count may be: the figures were stored as float32, which moves none by more than 0.004."""


def counts(percent: str, n: int, where: str) -> Counts:
    """The k of n that ``percent`` was printed from; DataError where there is none."""
    exact = float(percent) / 100 * n
    if abs(exact - round(exact)) > SLACK:
        raise DataError(f"{where}: {percent}% of {n} is {exact:.3f} right answers, which is no whole number")
    return Counts(k=round(exact), n=n)


def testbed(folder: Path) -> Baseline:
    """The ImageNet models of standard training, in the order of the testbed's table."""
    table = folder / "robustness_top1s.csv"
    types: dict[str, str] = json.loads((folder / "model_types.json").read_text(encoding="utf-8"))
    models = []
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        name = row["model"]
        if types.get(name) != "standard" or any(part in name for part in OUTSIDE):
            continue
        known: dict[str, Accuracy] = {
            key: counts(row[column], n, f"{table}, {name}, {column}") for key, (column, n) in COLUMNS.items() if row[column]
        }
        lacking = ", ".join(sorted({column for column, _ in COLUMNS.values() if not row[column]}))
        models.append(Reference(name=name, note=lacking and f"the testbed has no {lacking}", counts=known))
    return Baseline(
        id="imagenet-testbed@1",
        suite="imagenet",
        id_set="imagenet-val",
        classes=1000,
        source=TESTBED,
        filtered={"imagenet-a": "resnet50"},
        models=tuple(models),
    )


def recht(folder: Path, keys: Path) -> Baseline:
    """The CIFAR-10 classifiers, in the order of their names: their answers against the labels."""
    labels = {
        "cifar10": np.load(keys / "cifar10_test_set_original_labels.npy"),
        "cifar10.1": np.load(folder / "cifar10.1_v6_labels.npy"),
        "cifar10.1-v4": np.load(folder / "cifar10.1_v4_labels.npy"),
    }
    models = []
    for first in sorted((folder / "predictions" / "original_predictions").glob("*.json")):
        known: dict[str, Accuracy] = {}
        for key, version in SETS.items():
            path = folder / "predictions" / f"{version}_predictions" / first.name
            answers = np.array(json.loads(path.read_text(encoding="utf-8")))
            if answers.shape != labels[key].shape:
                raise DataError(f"{path}: {answers.shape} answers to {len(labels[key])} images")
            known[key] = Counts(k=int((answers == labels[key]).sum()), n=len(answers))
        name = first.stem.removesuffix("_predictions")
        models.append(Reference(name=name, note="counted from the repository's predictions", counts=known))
    return Baseline(id="cifar10-recht@1", suite="cifar10", id_set="cifar10", classes=10, source=RECHT, models=tuple(models))


def main() -> None:
    """Write both baselines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=BASELINES)
    given = parser.parse_args()
    pools = testbed(given.data / "imagenet-testbed"), recht(given.data / "cifar10.1", given.data / "answer-keys")
    for pool in pools:
        pool.save(given.out / f"{pool.id}.json")
        print(f"{pool.id}: {len(pool.models)} models, hash {pool.hash[:12]}")


if __name__ == "__main__":
    main()
