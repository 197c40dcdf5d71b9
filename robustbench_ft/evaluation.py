"""The verb ``evaluate``: from what a user typed to what the user sees. Several seeds are one row: one table, one picture."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_ft import score, scoring, sides, suites, yardstick
from robustbench_ft.errors import UsageError
from robustbench_ft.files import default_folder, digest, printed_json
from robustbench_ft.metrics import RECORD
from robustbench_ft.progress import say

if TYPE_CHECKING:
    from robustbench_ft.method import Method
    from robustbench_ft.records import RunRecord
    from robustbench_ft.suites import Suite

RULES = ("default", "id_val", "oracle", "unstated")
PICTURE = "curve.png"


@dataclass(frozen=True)
class Order:
    """What the user asked of ``evaluate``, as typed."""

    method: str
    suite: str = "mini"
    model: str | None = None
    pretrained: str | None = None
    overrides: list[tuple[str, str]] = field(default_factory=list)
    chosen_by: list[tuple[str, str]] = field(default_factory=list)
    seed: int | None = None
    """None: 0."""
    seeds: str | None = None
    """Several, with commas between; ``out`` is then the folder of their folders."""
    data: Path | None = None
    out: Path | None = None
    store: Path | None = None
    fresh: bool = False
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 256
    workers: int | None = None
    threads: int = 0
    track: str | None = None


def evaluate(order: Order, *, as_json: bool = False) -> str:
    """Run it, and return what is printed on stdout."""
    suite = suites.load(order.suite)
    method = _method(order, suite)
    out, folders = _folders(order, suite, method)
    begun, records = time.monotonic(), []
    for number, (seed, folder) in enumerate(folders.items(), 1):
        if order.seeds:
            say(f"seed {seed}, {number} of {len(folders)}")
        records.append(_run(dataclasses.replace(order, seed=seed), suite, method, folder))
    seconds, key = time.monotonic() - begun, sides.answers(suite, order.store)
    hits = [one for folder in folders.values() for one in sides.read(folder, suite, key).hits]
    scores = score.score(records, yardstick.of(suite), hits=hits)
    picture = _picture(scores, out)
    paths = [folder / RECORD for folder in folders.values()]
    if as_json:
        where = {"records": [str(path) for path in paths]} if order.seeds else {"record": str(paths[0])}
        return printed_json({**where, "picture": str(picture) if picture else None, **score.to_json(scores)})
    own_file = f" --suite {order.suite}" if order.suite.endswith(".toml") else ""
    lines = [
        scoring.shown(scores),
        *(f"record   {path}  ({record.record_hash[:12]})" for path, record in zip(paths, records, strict=True)),
        f"took     {seconds:.0f} s",
        f"picture  {picture or 'none: without an OOD mean there is nothing to draw'}",
        f"next     rbft score {out}{own_file} --format markdown",
    ]
    return "\n".join(lines)


def default_out(suite: Suite, method: Method, order: Order) -> Path:
    """``runs/SUITE/METHOD/seed-N``; METHOD carries a short hash when any field or the start is not the default."""
    from robustbench_ft.method import configure

    plain = configure(order.method, recipe_table=suite.recipes).dump()
    given = [method.dump(), order.model, order.pretrained]
    name = method.name if given == [plain, None, None] else f"{method.name}-{digest(given)[:6]}"
    return Path("runs") / suite.name.replace(":", "-") / name / f"seed-{order.seed or 0}"


def _folders(order: Order, suite: Suite, method: Method) -> tuple[Path, dict[int, Path]]:
    """The folder that is scored, and the folder of each seed's run: the same one, but for ``--seeds``."""
    own = order.out or default_out(suite, method, order)
    if order.seeds is None:
        return own, {order.seed or 0: own}
    seeds = _seeds(order)
    if method.deterministic and len(seeds) > 1:
        say(f"{method.name} is deterministic: another seed changes nothing, and seed {seeds[0]} stands for all")
        seeds = seeds[:1]
    of_all = order.out or own.parent
    if (of_all / RECORD).is_file():
        raise UsageError(
            f"--out {of_all} holds the run of one seed; expected a folder for several", hint="--out FOLDER, another one"
        )
    return of_all, {seed: of_all / f"seed-{seed}" for seed in seeds}


def _seeds(order: Order) -> list[int]:
    """What ``--seeds`` names; UsageError for anything but different whole numbers."""
    if order.seed is not None:
        raise UsageError("--seed and --seeds: expected one of them", hint=f"--seeds {order.seeds}")
    parts = (order.seeds or "").split(",")
    if not all(part.strip().isdecimal() for part in parts) or len({int(part) for part in parts}) < len(parts):
        raise UsageError(f"--seeds {order.seeds}: expected different whole numbers with commas between", hint="--seeds 0,1,2")
    return [int(part) for part in parts]


def _method(order: Order, suite: Suite) -> Method:
    from robustbench_ft.method import configure

    return configure(order.method, recipe_table=suite.recipes, overrides=[(k, _value(v)) for k, v in order.overrides])


def _selection(order: Order) -> dict[str, str]:
    """Per field given by ``--set``, the rule that chose it: what ``--chosen-by`` says, else ``unstated``."""
    rules = {name: "unstated" for name, _ in order.overrides}
    for name, rule in order.chosen_by:
        if name not in rules:
            raise UsageError(f"--chosen-by {name}: this field was not given by --set", hint=f"--set {name}=VALUE")
        if rule.partition(":")[0] not in RULES:
            raise UsageError(f"--chosen-by {name}={rule}: expected one of {', '.join(RULES)}, and :reason if you like")
        rules[name] = rule
    return rules


def _run(order: Order, suite: Suite, method: Method, out: Path) -> RunRecord:
    if order.data is not None and not order.data.is_dir():
        raise UsageError(f"--data {order.data}: no such folder", hint="the folder that holds the unpacked data sets")
    from robustbench_ft import run, store
    from robustbench_ft.predict import Evaluation
    from robustbench_ft.track import tracking

    device = _device(order.device)
    _set_threads(order.threads, suite)
    order_of_run = run.Run(
        suite=suite,
        method=method,
        start=order.model or suite.start,
        pretrained=order.pretrained,
        seed=order.seed or 0,
        data=order.data,
        out=out,
        store=store.Store(order.store or default_folder(), fresh=order.fresh),
        device=device,
        selection=_selection(order),
        how=Evaluation(batch_size=order.batch_size, precision=order.precision, workers=_workers(order)),
    )
    if order.track is None:
        return run.evaluate(order_of_run)
    with tracking(order.track, out, method.dump()):
        return run.evaluate(order_of_run)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}", hint="--device auto; rbft doctor") from error
    return name


def _set_threads(threads: int, suite: Suite) -> None:
    """One thread for the suites with a small built-in start: faster there, and the same numbers on any machine."""
    import torch

    if threads or suite.start == "mini-clip":
        torch.set_num_threads(threads or 1)


def _workers(order: Order) -> int:
    """Processes that decode: none where nothing is read from disk, else one less than there are cores, up to 8."""
    if order.workers is not None:
        return order.workers
    return min(8, (os.cpu_count() or 1) - 1) if order.data is not None else 0


def _picture(scores: score.RunScores, out: Path) -> Path | None:
    """Draw OOD mean against ID; nothing where the run is partial and has no OOD mean."""
    if scores.headline.ood_mean is None:
        return None
    from robustbench_ft import plots

    say("drawing the picture")
    plots.curve_picture(scores, out / PICTURE)
    return out / PICTURE


def _value(text: str) -> Any:
    """A JSON literal, else the text itself: ``--set alpha=0.3``, ``--set base=flyp``, ``--set recipe.clip=null``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
