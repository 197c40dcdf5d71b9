"""The rbft command: parse, call, print. Every verb takes ``--json``; progress and news go to stderr."""

from __future__ import annotations

import errno
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from robustbench_ft.errors import RbftError, UsageError, is_out_of_memory

app = typer.Typer(
    name="rbft",
    help="Robust fine-tuning of zero-shot vision models: evaluate methods, score runs, regenerate the leaderboard.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

baseline_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Baseline lines of your own reference models.")
app.add_typer(baseline_app, name="baseline")

INTERRUPTED = 130
# Of click, or of the copy of click in newer versions of typer.
CommandLineError: Any = typer.BadParameter.__mro__[2]

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
SuiteName = Annotated[str, typer.Option("--suite", help="A suite's name, or a suite file.")]


Format = Annotated[str, typer.Option("--format", help="table, markdown, latex or csv.")]
Baseline_ = Annotated[str | None, typer.Option("--baseline", help="The baseline line, or a .json file. Default: the suite's.")]


class Scale(StrEnum):
    """Of baseline lines."""

    logit = "logit"
    probit = "probit"
    linear = "linear"


class Precision(StrEnum):
    """Of evaluation."""

    fp32 = "fp32"
    bf16 = "bf16"


@app.command()
def evaluate(
    method: Annotated[str, typer.Option("--method", help="A method's name, or a .py file.")],
    suite: SuiteName = "mini",
    model: Annotated[str | None, typer.Option(help="Start model: rbft list models. Default: the suite's.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="Weights tag of an open_clip model, or a checkpoint file.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the method: base=flyp, base.recipe.lr=1e-4.")
    ] = None,
    ingredients: Annotated[
        str | None,
        typer.Option(
            help='Of a soup, as JSON: a list of methods, {"grid": {"recipe.lr": [1e-5, 3e-5]}}, or '
            '{"space": "model-soups", "count": 16, "seed": 0}.'
        ),
    ] = None,
    chosen_by: Annotated[
        list[str] | None,
        typer.Option("--chosen-by", help="What chose a field given by --set: FIELD=default|id_val|oracle."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: 0.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several in place of one, as in 0,1,2: their mean and spread.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the data sets.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for record, pack and picture; with --seeds, of all seed-N. Default: runs/SUITE/METHOD/seed-N."),
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of finished work. Default: $RBFT_STORE or the user's cache.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--no-fresh", help="Ignore fits that are in the store.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of evaluation.")] = Precision.fp32,
    batch_size: Annotated[int, typer.Option(min=1, help="Of evaluation.")] = 256,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images in evaluation. Default: one less than cores, up to 8.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of torch; 0: one for small models, torch's choice else.")] = 0,
    track: Annotated[str | None, typer.Option(help="Where training logs its loss: tensorboard, wandb or mlflow.")] = None,
    as_json: Json = False,
) -> None:
    """Fit a method on a suite, evaluate it with its path and the start, and write predictions, record and picture."""
    from robustbench_ft import evaluation

    overrides = [("ingredients", ingredients)] if ingredients else []
    order = evaluation.Order(
        method=method, suite=suite, model=model, pretrained=pretrained, overrides=overrides + _pairs(set_, "--set"),
        chosen_by=_pairs(chosen_by, "--chosen-by"), seed=seed, seeds=seeds, data=data, out=out, store=store, fresh=fresh,
        device=device, precision=precision.value, batch_size=batch_size, workers=workers, threads=threads,
        track=track,
    )  # fmt: skip
    print(evaluation.evaluate(order, as_json=as_json))


@app.command()
def score(
    path: Annotated[Path, typer.Argument(help="A run folder, a submission, a record.json, or a table of accuracies.")],
    suite: Annotated[str | None, typer.Option("--suite", help="A suite's name or file. Default: the run's or table's.")] = None,
    baseline: Baseline_ = None,
    axes: Annotated[Scale | None, typer.Option(help="Axes on which lines are straight. Default: the baseline's, logit.")] = None,
    percent: Annotated[bool, typer.Option("--percent/--fractions", help="What a table's values are.")] = False,
    partial: Annotated[bool, typer.Option("--partial/--complete", help="Take models that lack a shift: no OOD mean.")] = False,
    start: Annotated[str | None, typer.Option(help="The table's start model, for relative robustness.")] = None,
    format_: Format = "table",
    as_json: Json = False,
) -> None:
    """Score a run from its predictions, or a table of accuracies: effective and relative robustness with 95% intervals."""
    from robustbench_ft import scoring

    asked = scoring.Request(
        path, suite, baseline, axes.value if axes else None,
        percent=percent, partial=partial, start=start, form=format_, as_json=as_json,
    )  # fmt: skip
    print(scoring.run(asked))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A run folder, a submission's folder or a record.json.")],
    b: Annotated[Path, typer.Argument(help="The one that A is compared with.")],
    suite: Annotated[str | None, typer.Option("--suite", help="A suite file, for runs on a suite of your own.")] = None,
    format_: Format = "table",
    as_json: Json = False,
) -> None:
    """Compare two runs or submissions: paired tests, images kept, gained and lost, classes that lose most, matched ID."""
    from robustbench_ft import compare as verb

    print(verb.run(a, b, suite=suite, form=format_, as_json=as_json))


@app.command()
def power(
    suite: Annotated[str, typer.Argument(help="A suite's name or file.")] = "mini",
    root: Annotated[Path | None, typer.Option(help="The checkout whose submissions say how two rows differ. Default: .")] = None,
    gap: Annotated[float | None, typer.Option(min=0, help="In points: how many images would resolve it.")] = None,
    accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Assumed, where no submission tells.")] = None,
    disagreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Assumed share of images that one of two models alone gets right.")
    ] = None,
    format_: Format = "table",
    as_json: Json = False,
) -> None:
    """Say what gap between two methods a suite can resolve."""
    from robustbench_ft import power as verb

    print(verb.run(suite, root=root, gap=gap, accuracy=accuracy, disagreement=disagreement, form=format_, as_json=as_json))


@baseline_app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="csv with model,dataset,value[,n]: models trained on the ID training set alone.")],
    name: Annotated[str, typer.Option(help="Name and version, for example mine@1.")],
    out: Annotated[Path | None, typer.Option(help="Default: NAME.json.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="The suite whose test sets the table names.")] = None,
    id_set: Annotated[str | None, typer.Option(help="For test sets of your own: the one that is ID.")] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of classes: a line near chance says nothing.")] = None,
    source: Annotated[str, typer.Option(help="Where the figures come from. Default: the table's name.")] = "",
    percent: Annotated[bool, typer.Option("--percent/--fractions", help="What the table's values are.")] = False,
    as_json: Json = False,
) -> None:
    """Fit baseline lines to your own reference models, for rbft score --baseline."""
    from robustbench_ft import scoring

    pool = scoring.Pool(
        table, name, out or Path(f"{name}.json"), suite, id_set,
        classes=classes, source=source, percent=percent, as_json=as_json,
    )  # fmt: skip
    print(scoring.fit(pool))


@app.command()
def leaderboard(
    root: Annotated[Path, typer.Argument(help="The checkout that holds submissions/ and leaderboard.md.")] = Path("."),
    check: Annotated[bool, typer.Option("--check/--no-check", help="Change nothing; fail when the page is stale.")] = False,
    format_: Annotated[str, typer.Option("--format", help="Print the boards instead: csv, json or latex.")] = "",
    as_json: Json = False,
) -> None:
    """Re-score every submission from its predictions and regenerate leaderboard.md."""
    from robustbench_ft import leaderboard as verb

    print(verb.run(root, check_only=check, form=format_, as_json=as_json))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, suites, models or baselines.")],
    as_json: Json = False,
) -> None:
    """List what can be named."""
    from robustbench_ft import catalogue

    print(catalogue.listing(what, as_json=as_json))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A method, a suite or a baseline line such as mini@1.")],
    suite: SuiteName = "mini",
    as_json: Json = False,
) -> None:
    """Show one of them: a method's fields with their values on a suite, a suite's sets, a line's coefficients."""
    from robustbench_ft import catalogue

    print(catalogue.show(name, suite=suite, as_json=as_json))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has and whether rbft can run on it."""
    from robustbench_ft import catalogue

    print(catalogue.doctor(as_json=as_json))


def main() -> None:
    """Entry point: an error becomes one message with the next command, and an exit code (DESIGN 8)."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning workers cost up to 10x on a shared host
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # newer versions of typer turn Ctrl-C into a returned code
            raise KeyboardInterrupt
    except Exception as error:
        if debug and not isinstance(error, typer.Exit):
            raise
        code = _report(error)
    except KeyboardInterrupt:
        code = _fail("interrupted; the same command continues", code=INTERRUPTED)
    sys.exit(code)


def _report(error: Exception) -> int:
    """Print what went wrong and what to do; returns the exit code."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        return _fail("interrupted; the same command continues", code=INTERRUPTED)
    if isinstance(error, CommandLineError) and type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return 2
    if isinstance(error, CommandLineError):
        context = getattr(error, "ctx", None)
        return _fail(error.format_message(), hint=f"{context.command_path} --help" if context else "rbft --help", code=2)
    if isinstance(error, RbftError):
        return _fail(str(error), hint=error.hint, code=error.exit_code)
    text = f"{type(error).__name__}: {error}"
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "free space" in text:
        return _fail(f"the disk is full ({text})", hint="free some space, or --store DIR and --out DIR elsewhere; then again")
    if is_out_of_memory(error):
        return _fail(text.splitlines()[0], hint="a smaller --batch-size, or --set recipe.batch_size=...")
    return _fail(text, hint="the same command with --debug shows where")


def _fail(message: str, *, hint: str = "", code: int = 1) -> int:
    if "--json" in sys.argv:
        print(json.dumps({"error": message, "hint": hint, "exit_code": code}))
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"next:  {hint}", file=sys.stderr)
    return code


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    """``FIELD=VALUE`` texts, split at the first ``=``."""
    pairs = [text.partition("=") for text in given or []]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise UsageError(f"{option} {name!r}: expected FIELD=VALUE", hint=f"{option} alpha=0.3")
    return [(name.strip(), value) for name, _, value in pairs]


if __name__ == "__main__":
    main()
