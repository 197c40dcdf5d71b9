"""Kill one run again and again, continue it each time, and compare the end with a run left alone.

    python scripts/kill_test.py --kills 20                     wiseft on the mini suite, in a temporary folder
    python scripts/kill_test.py --kills 20 --method flyp --suite path/to/suite.toml --workdir DIR --set recipe.epochs=2

Each attempt is the same ``rbft evaluate`` command, with a store of its own for the two runs. It gets SIGKILL at a random
moment: uniform over what a run left alone takes, so that some attempts die while importing, some while rendering, training,
evaluating or writing. An attempt that finishes before its moment is not counted, and the store starts empty again. The last
attempt is left alone. Exit code 0: record hash, pack and scores are equal; 1: they are not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

CACHED = ("pixels", "predictions", "fits")


class Kill(NamedTuple):
    """One kill: seconds after the start, and what was in the store by then."""

    after: float
    kept: str


def main() -> None:
    """Run, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--method", default="wiseft")
    parser.add_argument("--suite", default="mini")
    parser.add_argument("--model")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it kills")
    parser.add_argument("--spare", type=float, default=0.0, help="share of a run, at its start, without kills: imports")
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    given = parser.parse_args()
    work = given.workdir or Path(tempfile.mkdtemp(prefix="rbft-kill-"))
    begun = time.monotonic()
    run(given, work / "alone")
    alone = time.monotonic() - begun
    kills = run_killed(given, work / "killed", alone)
    result = compare(work / "alone", work / "killed") | {"seconds_alone": alone, "kills": [kill._asdict() for kill in kills]}
    print(json.dumps(result) if given.json else table(result, kills))
    sys.exit(0 if result["pass"] else 1)


def command(given: argparse.Namespace, folder: Path) -> list[str]:
    """The command that a user would repeat."""
    words = ["evaluate", "--method", given.method, "--suite", given.suite, "--json"]
    words += ["--store", str(folder / "store"), "--out", str(folder / "out")]
    words += ["--model", given.model] if given.model else []
    return [sys.executable, "-m", "robustbench_ft.cli", *words, *(w for field in given.set for w in ("--set", field))]


def start(given: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    """An attempt, in a process group of its own: a kill takes its workers too."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        command(given, folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(given: argparse.Namespace, folder: Path) -> None:
    """One run to its end; what it prints is kept beside it. SystemExit where it fails."""
    process = start(given, folder)
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"rbft evaluate failed with exit code {process.returncode}:\n{out}\n{err}")
    (folder / "printed.json").write_text(out)


def run_killed(given: argparse.Namespace, folder: Path, alone: float) -> list[Kill]:
    """Attempts that are killed, ``given.kills`` of them, then one that is not."""
    moments = random.Random(given.seed)
    kills: list[Kill] = []
    while len(kills) < given.kills:
        after = moments.uniform(given.spare * alone, alone)
        process = start(given, folder)
        try:
            _, err = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills.append(Kill(after, contents(folder / "store")))
            continue
        if process.returncode:
            sys.exit(f"a continued run failed with exit code {process.returncode}:\n{err}")
        shutil.rmtree(folder)
    run(given, folder)
    return kills


def contents(store: Path) -> str:
    """Files per part of the store, for example ``pixels 3, predictions 0, fits 1``."""
    counts = {part: sum(file.is_file() for file in (store / part).rglob("*")) for part in CACHED}
    return ", ".join(f"{part} {count}" for part, count in counts.items())


def compare(alone: Path, killed: Path) -> dict[str, Any]:
    """Record hash, pack and scores of both runs, and whether all are equal."""
    from robustbench_ft import records
    from robustbench_ft.files import file_digest

    folders = (alone, killed)
    hashes = [records.load(folder / "out" / "record.json").record_hash for folder in folders]
    packs = [file_digest(folder / "out" / "pack.safetensors") for folder in folders]
    rows = [json.loads((folder / "printed.json").read_text())["rows"] for folder in folders]
    same = hashes[0] == hashes[1] and packs[0] == packs[1] and rows[0] == rows[1]
    return {"pass": same, "record_hash": hashes, "pack": packs, "scores_equal": rows[0] == rows[1]}


def table(result: dict[str, Any], kills: list[Kill]) -> str:
    """What is printed without ``--json``."""
    lines = [f"{'kill':>4}  {'after':>7}  files in the store by then"]
    lines += [f"{number:4}  {kill.after:5.1f} s  {kill.kept}" for number, kill in enumerate(kills, 1)]
    lines += [f"left alone a run takes {result['seconds_alone']:.1f} s", ""]
    for what in ("record_hash", "pack"):
        one, two = result[what]
        lines.append(f"{what:12}  {one[:16]}  {two[:16]}  {'equal' if one == two else 'DIFFERENT'}")
    lines.append(f"{'scores':12}  {'equal' if result['scores_equal'] else 'DIFFERENT'}")
    return "\n".join([*lines, "PASS" if result["pass"] else "FAIL"])


if __name__ == "__main__":
    main()
