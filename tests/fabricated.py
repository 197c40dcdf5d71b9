"""Small made-up suites, keys, packs, records and baselines for the tests right of the cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_ft import packs, suites
from robustbench_ft.baselines import Baseline, Reference
from robustbench_ft.files import file_digest, write_atomic
from robustbench_ft.metrics import grouped_labels, score
from robustbench_ft.packs import Pack
from robustbench_ft.records import Accuracy, Cost, Counts, Figure, Numerics, Point, RunRecord, StartRef
from robustbench_ft.specs import TestSet
from robustbench_ft.statistics import Floats
from robustbench_ft.submission import Submission
from robustbench_ft.suites import Panel, Suite

SETS = ("toy-test", "toy-v2", "toy-sketch", "toy-rendition", "toy-objectnet", "toy-a")
CLASSES = 20
START = (0.765, 0.586, 0.918, 0.784, 0.438, 0.559)
FT = (0.858, 0.714, 0.784, 0.700, 0.309, 0.524)
WISE = (0.849, 0.704, 0.892, 0.772, 0.379, 0.587)

TOML = """
name = "toy"
title = "A made-up suite"
classes = [{classes}]
templates = ["a {{}}"]
start = "toy-clip"
baseline = "{baseline}"
recipes = "toy"
{top}
[defaults]
format = "made-up"
path = "."

[train]
name = "toy-train"
split = "train"
n = 100

[val]
name = "toy-val"
split = "val"
n = 100

[test]
name = "toy-test"
split = "test"
n = {n}
digest = "digest of toy-test"
"""
SHIFT = """
[[shifts]]
name = "{name}"
split = "{name}"
n = {n}
digest = "digest of {name}"
{extra}
"""


def make_suite(folder: Path, n: int = 400, *, baseline: str = "", extra: dict[str, str] | None = None, version: int = 1) -> Suite:
    """A suite file and its answer key in ``folder``; ``extra``: more TOML lines per shift."""
    classes = ", ".join(f'"c{i}"' for i in range(CLASSES))
    text = TOML.format(classes=classes, n=n, baseline=baseline, top=f"version = {version}")
    text = text if baseline else text.replace('baseline = ""\n', "")
    text += "".join(SHIFT.format(name=name, n=n, extra=(extra or {}).get(name, "")) for name in SETS[1:])
    write_atomic(folder / "toy.toml", text)
    suite = suites.load(str(folder / "toy.toml"))
    generator = np.random.default_rng(0)
    answers = {}
    for spec in suite.tests:
        size = len(spec.class_groups) if spec.class_groups else CLASSES
        answers[f"{spec.name}/own"] = generator.integers(0, size, n).astype(np.uint16)
    key = Pack(suite.protocol, {spec.name: spec.digest or "" for spec in suite.tests}, answers)
    packs.save(key, folder / "toy.key.safetensors")
    return suite


def make_key(suite: Suite) -> Pack:
    return packs.load(suite.file.with_suffix(".key.safetensors"))


def make_pack(suite: Suite, accuracies: tuple[float, ...], seed: int = 0, share: float = 0.7) -> Pack:
    """Answers that are right on about ``accuracies`` of the images; ``share`` of the luck belongs to the image."""
    key, answers = make_key(suite), {}
    for number, (spec, accuracy) in enumerate(zip(suite.tests, accuracies, strict=False)):
        labels = key.answers[f"{spec.name}/own"]
        image = np.random.default_rng([number]).standard_normal(len(labels))
        noise = np.random.default_rng([number, seed + 1]).standard_normal(len(labels))
        luck = np.argsort(np.argsort(share**0.5 * image + (1 - share) ** 0.5 * noise)) / len(labels)
        wrong = (labels + 1) % max(2, len(spec.class_groups or range(CLASSES)))
        answers[f"{spec.name}/own"] = np.where(luck < accuracy, labels, wrong).astype(np.uint16)
        for grouping, groups in list(suite.groupings(spec))[1:]:
            group = np.maximum(grouped_labels(labels, groups), 0)
            answers[f"{spec.name}/{grouping}"] = np.where(luck < accuracy, group, group ^ 1).astype(np.uint16)
    return Pack(suite.protocol, {spec.name: key.digests[spec.name] for spec in suite.tests}, answers)


def make_record(suite: Suite, points: dict[str, dict[str, Counts]], headline: str, **fields: object) -> RunRecord:
    """A record; points named ``alpha=0.5`` have that alpha, and ``start`` has 0."""

    def alpha(name: str) -> float | None:
        path = any(point.startswith("alpha=") for point in points)
        return (0.0 if name == "start" else float(name.removeprefix("alpha="))) if path else None

    made = [Point(name=name, alpha=alpha(name), headline=name == headline, counts=c) for name, c in points.items()]
    values: dict[str, object] = {
        "suite": suite.name,
        "protocol": suite.protocol,
        "start": StartRef(name="toy-clip", weights="0" * 64),
        "method": headline,
        "config": {},
        "deterministic": False,
        "seed": 0,
        "selection": {"alpha": "default"},
        "points": tuple(made),
        "numerics": Numerics(device="cpu", precision="fp32", batch_size=64, threads=1),
        "versions": {"torch": "2"},
        "commit": None,
        "dirty": None,
        "cost": Cost(fit_seconds=1, evaluate_seconds=1),
        "created": "2026-01-01",
        "host": "",
    }
    return RunRecord.model_validate(values | fields)


def make_run(
    folder: Path,
    suite: Suite,
    accuracies: tuple[float, ...],
    path: dict[str, tuple[float, ...]] | None = None,
    **fields: object,
) -> RunRecord:
    """A run folder with record and pack; ``path``: accuracies of more points."""
    method = str(fields.get("method", "ft"))
    seed = int(str(fields.get("seed", 0)))
    headline = str(fields.pop("headline", method))
    pack = make_pack(suite, accuracies, seed)
    packs.save(pack, folder / "pack.safetensors")
    key = make_key(suite)
    points = {"start": score(make_pack(suite, START), key, suite).counts}
    for name, values in (path or {}).items():
        points[name] = score(make_pack(suite, values, seed), key, suite).counts
    points[headline] = score(pack, key, suite).counts
    if path:
        points = dict(sorted(points.items(), key=lambda item: 0 if item[0] == "start" else float(item[0][6:])))
    record = make_record(suite, points, headline, **{"method": method} | fields)
    digest = file_digest(folder / "pack.safetensors")
    made = tuple(p.model_copy(update={"pack": digest}) if p.headline else p for p in record.points)
    record = record.model_copy(update={"points": made})
    record.save(folder / "record.json")
    return record


LINES = {
    "toy-v2": (0.73, -0.66),
    "toy-sketch": (0.5, -2.0),
    "toy-rendition": (0.82, -1.89),
    "toy-objectnet": (0.5, -1.9),
    "toy-a": (0.8, -2.3),
}


def make_baseline(suite: Panel, m: int = 14, n: int = 2000, *, noise: float = 0.06, **fields: object) -> Baseline:
    """A pool of ``m`` models along planted lines (``LINES``: slope, intercept), ID accuracy 0.4 to 0.85."""
    generator = np.random.default_rng(3)
    models = []
    for number, x in enumerate(np.linspace(-0.4, 1.73, m)):
        counts = {SETS[0]: Counts(k=round(n / (1 + np.exp(-x))), n=n)}
        for name, (slope, intercept) in LINES.items():
            y = intercept + slope * x + noise * generator.standard_normal()
            counts[name] = Counts(k=round(n / (1 + np.exp(-y))), n=n)
        models.append(Reference(name=f"scratch-{number}", counts=counts))
    values = {
        "id": "toy@1",
        "suite": suite.name,
        "protocol": suite.protocol if isinstance(suite, Suite) else None,
        "id_set": SETS[0],
        "classes": CLASSES,
        "source": "made up",
        "models": tuple(models),
    }
    return Baseline.model_validate(values | fields)


def mix(alpha: float) -> tuple[float, ...]:
    """A curve from START through about WISE at 0.5 to FT."""
    start, middle, end = (np.array(values) for values in (START, WISE, FT))
    bump = middle - (start + end) / 2
    return tuple(((1 - alpha) * start + alpha * end + 4 * alpha * (1 - alpha) * bump).tolist())


def counts(ks: tuple[int, ...], n: int = 100) -> dict[str, Counts]:
    """``k`` of ``n`` on each test set, in the order of ``SETS``."""
    return {f"{name}/own": Counts(k=k, n=n) for name, k in zip(SETS, ks, strict=False)}


def printed(values: dict[str, str], n: int | None = None) -> dict[str, Accuracy]:
    """Figures as a paper prints them, per test set or ``<ID test set>/<shift>``."""
    return {name if "/" in name else f"{name}/own": Figure(value=value, n=n) for name, value in values.items()}


def unusable_sketch(suite: Panel) -> Baseline:
    """A pool whose models all answer 5% of the sketches, which is chance."""
    baseline = make_baseline(suite)
    models = tuple(
        m.model_copy(update={"counts": m.counts | {"toy-sketch": Counts(k=100 + i % 2, n=2000)}})
        for i, m in enumerate(baseline.models)
    )
    return baseline.model_copy(update={"models": models})


MATCHED = ("toy-rendition", "toy-a")
"""Shifts of ``make_panel`` that have 15 of the 20 classes."""


def make_panel(**fields: object) -> Panel:
    """The toy suite as published figures know it."""
    shifts = tuple(TestSet(name=name, n=2000, subset=15 if name in MATCHED else None) for name in SETS[1:])
    values = {"name": "toy", "title": "A made-up suite", "test": TestSet(name=SETS[0], n=2000), "shifts": shifts}
    return Panel.model_validate(values | fields)


def make_matched(panel: Panel, **fields: object) -> Baseline:
    """``make_baseline`` with ID accuracies on the classes of ``MATCHED``: higher by about half a logit, with some luck."""
    generator, models = np.random.default_rng(8), []
    baseline = make_baseline(panel, **{"protocol": None} | fields)  # type: ignore[arg-type]
    for model in baseline.models:
        p = model.counts[SETS[0]].accuracy
        x = np.log(p / (1 - p)) + 0.5 + 0.1 * generator.standard_normal(len(MATCHED))
        ks = {f"{SETS[0]}/{name}": Counts(k=round(1500 / (1 + np.exp(-at))), n=1500) for name, at in zip(MATCHED, x, strict=True)}
        models.append(model.model_copy(update={"counts": model.counts | ks}))
    return baseline.model_copy(update={"models": tuple(models)})


def shares(item: Submission) -> dict[str, Floats]:
    """Per ``<test set>/<grouping>``, float [N]: the share of seeds that were right on each image."""
    return {name: np.mean([seed[name] for seed in item.hits], axis=0, dtype=np.float64) for name in item.hits[0]}
