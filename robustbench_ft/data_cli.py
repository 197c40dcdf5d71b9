"""The verbs of ``rbft data``: what is there, how to get the rest, whether it is whole, and which ids it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Data sets: what is there, get it, check it, list its ids."
)

Names = Annotated[list[str] | None, typer.Argument(help="Data sets, or NAME/SPLIT, or a data set file. See rbft list datasets.")]
SuiteName = Annotated[str | None, typer.Option("--suite", help="The sets of a suite instead.")]
Data = Annotated[Path | None, typer.Option("--data", envvar="RBFT_DATA", help="Folder with the data sets.")]
Store = Annotated[Path | None, typer.Option(help="Folder of what is kept. Default: $RBFT_STORE or the user's cache.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@data_app.command()
def status(
    names: Names = None,
    suite: SuiteName = None,
    data: Data = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Exit code 3 unless all that is asked for is there.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say what is there, with counts against expected, and how to get the rest. Opens no image."""
    from robustbench_ft import data_status
    from robustbench_ft.asked import asked, data_root
    from robustbench_ft.files import default_folder, printed_json

    splits = asked(names or [], suite, everything=True)
    states = data_status.look(splits, data_root(data), store or default_folder())
    print(printed_json(data_status.as_json(states)) if as_json else data_status.table(states))
    if check and any(state.fault for state in states):
        raise typer.Exit(3)


@data_app.command()
def prepare(
    names: Names = None,
    suite: SuiteName = None,
    data: Data = None,
    from_: Annotated[
        list[Path] | None, typer.Option("--from", help="An archive, under any name, or a folder with archives. May be repeated.")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch/--no-fetch", help="Fetch archives where their source allows it.")] = True,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Unpack and sort into the layout that is read, from archives in the data folder, given by --from, or fetched."""
    from robustbench_ft import data_status
    from robustbench_ft import prepare as verb
    from robustbench_ft.asked import asked, data_root
    from robustbench_ft.files import default_folder, printed_json

    place = verb.Place(data_root(data), store or default_folder(), from_ or [], fetch)
    states = verb.prepare(asked(names or [], suite), place)
    print(printed_json(data_status.as_json(states)) if as_json else data_status.table(states))


@data_app.command()
def verify(
    names: Names = None,
    suite: SuiteName = None,
    data: Data = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that open images. Default: one per core, up to 16.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick/--full", help="Counts, ids and labels alone: opens no image.")] = False,
    again: Annotated[bool, typer.Option("--again/--kept", help="Open also what was opened before and has not changed.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Check counts, ids and labels, that every image opens, and the checksums of archives that are still there."""
    from robustbench_ft import verify as verb
    from robustbench_ft.asked import asked, data_root
    from robustbench_ft.files import default_folder, printed_json

    root = data_root(data)
    used = min(os.cpu_count() or 1, 16) if workers is None else workers
    verdicts, archives = verb.verify(asked(names or [], suite), root, verb.How(store or default_folder(), used, quick, again))
    fault = verb.fault(verdicts, archives, root)
    if as_json:
        wrong = {"error": str(fault), "hint": fault.hint, "exit_code": fault.exit_code} if fault else {}
        print(printed_json(wrong | verb.as_json(verdicts, archives)))
        raise typer.Exit(fault.exit_code if fault else 0)
    print(verb.table(verdicts))
    if fault:
        raise fault


@data_app.command()
def index(
    names: Names = None,
    suite: SuiteName = None,
    data: Data = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print id and label of every image of one split, in order.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Print count and hash of ids and labels; with --suite, keep the right answers for rbft score."""
    from robustbench_ft import data_index as verb
    from robustbench_ft.asked import asked, data_root
    from robustbench_ft.files import default_folder, printed_json

    folder = store or default_folder()
    states = verb.index(asked(names or [], suite), data_root(data), folder)
    if suite:
        verb.keep_keys(suite, states, folder)
    if ids:
        found = verb.ids(states)
        print(printed_json(found) if as_json else "\n".join(f"{name}\t{label}" for name, label in found))
        return
    print(printed_json(verb.as_json(states, folder)) if as_json else verb.table(states, folder))
