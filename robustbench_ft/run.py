"""One run, start to finish: a method on a suite, to predictions and a record."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from robustbench_ft import packs, seal, store
from robustbench_ft.datasets import ImageSet, nothing, open_set, open_spec
from robustbench_ft.errors import MissingData
from robustbench_ft.files import digest, file_digest
from robustbench_ft.method import Method, PathPoint, Supported, Task
from robustbench_ft.metrics import PACK, RECORD, Truth, keep_key, scored
from robustbench_ft.model import Classifier, load_start
from robustbench_ft.packs import Answers, Pack
from robustbench_ft.predict import Evaluation, predict
from robustbench_ft.progress import say
from robustbench_ft.records import Cost, Counted, Numerics, Point, RunRecord, StartRef
from robustbench_ft.specs import DatasetSpec
from robustbench_ft.suites import Suite

RECORDED = ("robustbench-ft", "torch", "torchvision", "open_clip_torch", "timm", "numpy")


@dataclass(frozen=True)
class Run:
    """What to run: everything that ``evaluate`` needs."""

    suite: Suite
    method: Method
    start: str
    store: store.Store
    out: Path
    pretrained: str | None = None
    seed: int = 0
    data: Path | None = None
    device: str = "cpu"
    selection: dict[str, str] = field(default_factory=dict)
    how: Evaluation = field(default_factory=Evaluation)


@dataclass(frozen=True)
class Judged:
    """Answers of every point, per ``<test set>/<grouping>``, with the labels they are counted against."""

    answers: dict[str, dict[str, Answers]]
    counts: dict[str, dict[str, Counted]]
    digests: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)


def evaluate(run: Run) -> RunRecord:
    """Fit the method, evaluate the start, the result and its path in one pass a test set, write pack and record.

    Everything done is kept in the store, so the same run again continues where it stopped.
    """
    with store.using(run.store):
        start = load_start(run.start, run.suite, pretrained=run.pretrained, device=run.device)
        task = open_task(run)
        begun = time.monotonic()
        fitted = run.method.fit(start, task)
        fitted_at = time.monotonic()
        points = list_points(run.method, start, fitted, task)
        judged = judge(run, start, fitted, points)
    cost = Cost(fit_seconds=fitted_at - begun, evaluate_seconds=time.monotonic() - fitted_at)
    pack = Pack(run.suite.protocol, judged.digests, judged.answers[run.method.headline(fitted)[0]])
    packs.save(pack, run.out / PACK)
    record = describe(run, start, points, judged, cost, fitted=fitted)
    record.save(run.out / RECORD)
    return record


def open_task(run: Run) -> Task:
    """Train and val of the suite, as a method may see them; nothing, for a method that reads neither.

    The val sets of supported tasks are there for methods that declare data beyond ID.
    """
    supported: list[Supported] = []
    if run.method.data_beyond_id != "none":
        for spec in run.suite.shifts:
            if spec.val:
                supported.append(Supported(open_spec(spec.val, run.data, run.store.folder), spec.classes, spec.templates))
    if run.method.reads_data:
        train, val = (open_set(run.suite, spec, run.data, run.store.folder) for spec in (run.suite.train, run.suite.val))
    else:
        train = val = nothing()
    return Task(run.suite.name, train, val, run.suite.classes, run.suite.templates, run.seed, tuple(supported))


def list_points(method: Method, start: Classifier, fitted: Classifier, task: Task) -> dict[str, PathPoint]:
    """Every point to evaluate, by name: the start, the method's path, and the headline among them."""
    name, alpha = method.headline(fitted)
    points = {"start": PathPoint("start", lambda: start, None if alpha is None else 0.0)}
    with seal.sealed():
        points |= {point.name: point for point in method.path(start, task)}
    points[name] = PathPoint(name, lambda: fitted, alpha)
    return dict(sorted(points.items(), key=lambda item: (item[1].alpha is None, item[1].alpha or 0.0)))


def judge(run: Run, start: Classifier, fitted: Classifier, points: dict[str, PathPoint]) -> Judged:
    """Evaluate all points on every test set that is there; a shift that is not makes the run partial."""
    judged = Judged({name: {} for name in points}, {name: {} for name in points})
    for spec in run.suite.read:
        try:
            images = open_set(run.suite, spec, run.data, run.store.folder)
        except MissingData as error:
            if spec.name == run.suite.test.name:
                raise
            say(f"missing: {error}")
            judged.missing.extend(one.name for one in run.suite.tests if one.images == spec.name)
            continue
        found = answer(run, spec, images, start=start, fitted=fitted, points=points)
        truth = Truth(images.labels, images.columns)
        if images.aligned:
            judged.digests[spec.name] = images.digest
            keep_key(run.store.folder, run.suite, spec.name, truth, images.digest)
        else:
            judged.unaligned.append(spec.name)
        for point, answers in found.items():
            judged.counts[point] |= scored(run.suite, spec, answers, truth).counts
            if images.aligned:
                judged.answers[point] |= {f"{spec.name}/{grouping}": given for grouping, given in answers.items()}
    return judged


def answer(
    run: Run,
    spec: DatasetSpec,
    images: ImageSet,
    *,
    start: Classifier,
    fitted: Classifier,
    points: dict[str, PathPoint],
) -> dict[str, dict[str, Answers]]:
    """The answers of all points on one set: from the store where they are, else in one pass."""
    groupings = run.suite.packed(spec)
    words = (spec.classes, spec.templates) if spec.head == "own" else None
    rest = [
        images.digest,
        groupings,
        words,
        spec.options,
        start.preprocess.describe(),
        [run.how.batch_size, run.how.precision],
        store.numerics(torch.device(run.device)),
        store.code(),
    ]
    origins = {name: [fitted.origin, name] for name in points} | {"start": [start.origin, "start"]}
    keys = {name: digest([origin, *rest]) for name, origin in origins.items()}
    found = {name: known for name, key in keys.items() if (known := run.store.predictions(key)) is not None}
    todo = {name: point.classifier for name, point in points.items() if name not in found}
    if todo:
        made = predict(todo, images, groupings, words=words, how=run.how, preprocess=start.preprocess)
        for name, answers in made.items():
            run.store.keep_predictions(keys[name], answers)
        found |= made
    return {name: found[name] for name in points}


def describe(
    run: Run, start: Classifier, points: dict[str, PathPoint], judged: Judged, cost: Cost, *, fitted: Classifier
) -> RunRecord:
    """The record of a finished run whose pack is written."""
    headline = run.method.headline(fitted)[0]
    pack = file_digest(run.out / PACK)
    numerics = store.numerics(torch.device(run.device))
    commit, dirty = _commit()
    return RunRecord(
        suite=run.suite.name,
        protocol=run.suite.protocol,
        start=StartRef(name=run.start if run.pretrained is None else f"{run.start}:{run.pretrained}", weights=start.origin),
        method=run.method.name,
        config=run.method.dump(),
        sources=store.method_sources(run.method.dump()),
        deterministic=run.method.deterministic,
        seed=run.seed,
        selection=dict.fromkeys(type(run.method).model_fields, "default")
        | run.selection
        | dict.fromkeys(fitted.chosen, "id_val"),
        points=tuple(
            Point(
                name=name,
                alpha=point.alpha,
                headline=name == headline,
                pack=pack if name == headline else None,
                counts=judged.counts[name],
            )
            for name, point in points.items()
        ),
        missing=tuple(judged.missing),
        unaligned=tuple(judged.unaligned),
        numerics=Numerics(
            device=numerics["device"],
            threads=numerics["threads"],
            precision=run.how.precision,
            batch_size=run.how.batch_size,
        ),
        versions={"python": platform.python_version()} | {name: version(name) for name in RECORDED},
        commit=commit,
        dirty=dirty,
        cost=cost,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        host=f"{platform.machine()}, {os.cpu_count()} cores",
    )


def _commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this package runs from and whether it has changes; None outside of a checkout."""
    git = ("git", "-C", str(Path(__file__).parent))
    try:
        commit, status = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(status)
