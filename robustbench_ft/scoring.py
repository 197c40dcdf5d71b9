"""The verbs ``score`` and ``baseline fit``: runs, submissions, published figures and tables of accuracies in, scores out."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from robustbench_ft import accuracies, baselines, published, rows, score, score_tables, sides, suites, yardstick
from robustbench_ft.accuracies import Table
from robustbench_ft.baselines import Baseline, Reference
from robustbench_ft.errors import DataError, MissingData, PartialError, UnknownName, UsageError
from robustbench_ft.files import printed_json
from robustbench_ft.lines import MIN_MODELS, TransformName
from robustbench_ft.metrics import RECORD
from robustbench_ft.progress import say
from robustbench_ft.records import PUBLISHED, Figure
from robustbench_ft.rows import Scores, Subject
from robustbench_ft.suites import Panel
from robustbench_ft.tables import to_csv
from robustbench_ft.values import fault
from robustbench_ft.yardstick import Figures, Yardstick

START_NAMES = {"zeroshot", "start", "clipzeroshot"}


@dataclass(frozen=True)
class Request:
    """What the user asked of ``score``, as typed."""

    path: Path
    suite: str | None = None
    baseline: str | None = None
    axes: TransformName | None = None
    percent: bool = False
    partial: bool = False
    start: str | None = None
    """The model of a table that the others were tuned from."""
    form: str = "table"
    as_json: bool = False

    @property
    def again(self) -> str:
        """The command as it was given, for hints that add to it."""
        named = [("suite", self.suite), ("baseline", self.baseline), ("axes", self.axes)]
        words = ["rbft score", str(self.path), *(f"--{name} {value}" for name, value in named if value)]
        return " ".join([*words, *["--percent"] * self.percent, *["--partial"] * self.partial])


def run(asked: Request) -> str:
    """Score what lies at the path, and return what is printed on stdout."""
    if not asked.path.exists():
        told = f"{asked.path}: no such file or folder; expected a run, a submission or a table of accuracies"
        raise MissingData(told, hint="rbft score TABLE.csv (docs/tables.md), or rbft score submissions/mini-wiseft")
    if asked.path.is_file() and asked.path.name != RECORD and not _is_record(asked.path):
        if asked.path.name == PUBLISHED:
            return _published(asked)
        return _answer(asked, *_table(asked))
    if (asked.path / PUBLISHED).is_file():
        return _published(dataclasses.replace(asked, path=asked.path / PUBLISHED))
    return _run(asked)


def _is_record(path: Path) -> bool:
    """Whether a JSON file is a run record, under whatever name."""
    if path.suffix != ".json":
        return False
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("kind") == "run"


def _run(asked: Request) -> str:
    """A run folder, a submission's folder or a record file; counts are recomputed where packs are at hand."""
    if asked.start or asked.percent or asked.partial:
        raise UsageError(
            f"--start, --percent and --partial are for tables; {asked.path} is a run", hint=f"rbft score {asked.path}"
        )
    suite = suites.load(asked.suite or score.load_run(asked.path)[0].suite)
    row = sides.read(asked.path, suite, sides.answers(suite))
    if row.lacks:
        say(f"the record's counts are taken as they are: {row.lacks}")
    scores = score.score(row.runs, yardstick.of(suite, asked.baseline, asked.axes), hits=row.hits)
    if asked.as_json:
        return printed_json(score.to_json(scores))
    return shown(scores) if asked.form == "table" else score_tables.render(scores, asked.form, score_tables.title(scores))


def shown(scores: score.RunScores) -> str:
    """A run's tables for a terminal, and the alpha curve where there is one."""
    return "\n".join(
        part for part in (score_tables.render(scores, "table", score_tables.title(scores)), score_tables.curve(scores)) if part
    )


def _published(asked: Request) -> str:
    boards = published.boards([published.load(asked.path)])
    if asked.as_json:
        return printed_json({"boards": [published.to_json(board) for board in boards]})
    if asked.form == "csv":
        return to_csv(row for board in boards for row in published.rows_json(board))
    return "\n".join(score_tables.render(b.scores, asked.form, f"{b.panel.name}, start model {b.start}") for b in boards)


def _answer(asked: Request, scores: Scores, heading: str) -> str:
    if asked.as_json:
        return printed_json(rows.to_json(scores))
    return score_tables.render(scores, asked.form, heading)


def _table(asked: Request) -> tuple[Scores, str]:
    by = _yardstick(asked)
    table = accuracies.read(asked.path, by.panel if by else asked.suite, percent=asked.percent)
    by = by or yardstick.of(table.panel, asked.baseline, asked.axes)
    if not asked.partial and (lacking := accuracies.partial(table)):
        model, sets = next(iter(lacking.items()))
        told = f"{asked.path}: model {model!r} has no {', '.join(sets)}: no OOD mean over {len(by.panel.headline_shifts)} shifts"
        more = f", and {len(lacking) - 1} more models lack some" if len(lacking) > 1 else ""
        raise PartialError(told + more, hint=f"{asked.again} --partial")
    start = _start(asked, table)
    known = {model: _with_sizes(figures, by) for model, figures in table.models.items()}
    subjects = [
        Subject(model, [figures], [known[start]] if start else None, alpha=table.alphas.get(model))
        for model, figures in known.items()
    ]
    scores = rows.score(subjects, by)
    told = f"{len(subjects)} model{'s' * (len(subjects) > 1)} of {asked.path.name} on {by.panel.name}"
    told += f", {score_tables.line_name(scores)}"
    return scores, told + (f", relative to {start}" if start else "")


def _yardstick(asked: Request) -> Yardstick | None:
    """Where the baseline is a user's own, on test sets that no suite names, its sets are the panel."""
    if not asked.baseline or asked.suite:
        return None
    baseline = baselines.load(asked.baseline)
    if baseline.suite in suites.panel_names():
        return None
    return Yardstick(baseline.panel(), baseline, asked.axes)


def _with_sizes(figures: Figures, by: Yardstick) -> Figures:
    """ID accuracy on a shift's classes is a share of as many images as the reference models were tested on."""
    found = dict(figures)
    for key, figure in figures.items():
        if by.baseline and isinstance(figure, Figure) and figure.n is None and not key.endswith("/own"):
            found[key] = figure.model_copy(update={"n": by.baseline.size(key)})
    return found


def _start(asked: Request, table: Table) -> str | None:
    """The table's start model: named by the user, alpha 0, or called zero-shot."""
    if asked.start is not None and asked.start not in table.models:
        raise UnknownName("model", asked.start, table.models, hint=f"{asked.again} --start MODEL")
    named = [model for model in table.models if accuracies.plain(model) in START_NAMES or table.alphas.get(model) == 0]
    return asked.start or (named[0] if len(named) == 1 else None)


@dataclass(frozen=True)
class Pool:
    """What the user asked of ``baseline fit``, as typed."""

    path: Path
    name: str
    out: Path
    suite: str | None = None
    id_set: str | None = None
    classes: int | None = None
    source: str = ""
    percent: bool = False
    as_json: bool = False


def fit(asked: Pool) -> str:
    """Fit lines to the reference models of a table, write the baseline, and return what is printed on stdout."""
    if asked.id_set and asked.suite:
        raise UsageError("--suite and --id-set: expected one of them; a suite knows its ID test set")
    panel = accuracies.panel_of(asked.path, asked.id_set, asked.classes) if asked.id_set else asked.suite
    table = accuracies.read(asked.path, panel, percent=asked.percent)
    classes = asked.classes or _classes(table.panel)
    models = tuple(
        Reference(name=model, counts={key.removesuffix("/own"): figure for key, figure in figures.items()})
        for model, figures in table.models.items()
    )
    if len(models) < MIN_MODELS:
        raise DataError(
            f"{asked.path}: {len(models)} reference models; a line needs {MIN_MODELS} or more, and says little below 10"
        )
    try:
        baseline = Baseline(
            id=asked.name,
            suite=table.panel.name,
            id_set=table.panel.test.name,
            classes=classes,
            source=asked.source or asked.path.name,
            models=models,
        )
    except ValidationError as error:
        raise UsageError(f"{fault(error)}; expected a name and a version", hint="--name mine@1") from error
    if not baseline.lines(table.panel):
        raise DataError(f"{asked.path}: no shift that {MIN_MODELS} models or more have beside {baseline.id_set}: no line")
    _keep_others(asked, baseline)
    try:
        baseline.save(asked.out)
    except OSError as error:
        raise UsageError(f"cannot write {asked.out}: {error.strerror}", hint="--out FILE.json, in a folder of yours") from error
    if asked.as_json:
        return printed_json({"baseline": str(asked.out), **baseline.to_json([table.panel])})
    text = score_tables.baseline_table(baseline, [table.panel])
    return f"{text}\nwrote {asked.out}\nnext  rbft score TABLE.csv --baseline {asked.out}"


def _keep_others(asked: Pool, baseline: Baseline) -> None:
    """A baseline is a versioned artefact: another pool is another version, and the shipped ones keep their names."""
    name, _, version = baseline.id.partition("@")
    hint = f"--name {name}@{int(version) + 1}"
    if baseline.id in baselines.names():
        raise UsageError(f"{baseline.id} is a baseline of the package", hint=hint)
    if asked.out.suffix != ".json":
        raise UsageError(f"--out {asked.out}: expected a .json file", hint=f"--out {baseline.id}.json")
    if asked.out.is_file() and asked.out.samefile(asked.path):
        raise UsageError(f"--out {asked.out} is the table itself", hint=f"--out {baseline.id}.json")
    if asked.out.is_file() and baselines.load(str(asked.out)).hash != baseline.hash:
        raise UsageError(f"{asked.out} holds another baseline", hint=f"{hint}, or another --out")


def _classes(panel: Panel) -> int:
    if isinstance(panel, suites.Suite):
        return len(panel.classes)
    own_baseline = baselines.load(panel.baseline) if panel.baseline else None
    if own_baseline is None:
        raise UsageError(f"the number of classes of {panel.name} is not known; chance depends on it", hint="--classes 182")
    return own_baseline.classes
