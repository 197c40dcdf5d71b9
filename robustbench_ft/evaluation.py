"""The verb ``evaluate``: from what a user typed to what the user sees."""

from __future__ import annotations

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
    seed: int = 0
    data: Path | None = None
    out: Path | None = None
    store: Path | None = None
    fresh: bool = False
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 256
    workers: int | None = None
    threads: int = 0


def evaluate(order: Order, *, as_json: bool = False) -> str:
    """Run it, and return what is printed on stdout."""
    begun = time.monotonic()
    suite = suites.load(order.suite)
    method = _method(order, suite)
    out = order.out or default_out(suite, method, order)
    record = _run(order, suite, method, out)
    hits = sides.read(out, suite, sides.answers(suite, order.store)).hits
    scores = score.score([record], yardstick.of(suite), hits=hits)
    picture = _picture(scores, out)
    if as_json:
        return printed_json({"record": str(out / RECORD), "picture": str(picture) if picture else None, **score.to_json(scores)})
    own_file = f" --suite {order.suite}" if order.suite.endswith(".toml") else ""
    lines = [
        scoring.shown(scores),
        f"record   {out / RECORD}  ({record.record_hash[:12]}, {time.monotonic() - begun:.0f} s)",
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
    return Path("runs") / suite.name.replace(":", "-") / name / f"seed-{order.seed}"


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

    device = _device(order.device)
    _set_threads(order.threads, suite)
    return run.evaluate(
        run.Run(
            suite=suite,
            method=method,
            start=order.model or suite.start,
            pretrained=order.pretrained,
            seed=order.seed,
            data=order.data,
            out=out,
            store=store.Store(order.store or default_folder(), fresh=order.fresh),
            device=device,
            selection=_selection(order),
            how=Evaluation(batch_size=order.batch_size, precision=order.precision, workers=_workers(order)),
        )
    )


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
