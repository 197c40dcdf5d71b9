"""The verbs ``list``, ``show`` and ``doctor``: what can be named, and what this machine has."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from robustbench_ft import baselines, data_show, datafiles, method, score_tables, suites
from robustbench_ft.errors import UnknownName
from robustbench_ft.files import default_folder, printed_json
from robustbench_ft.specs import DatasetSpec

Rows = list[dict[str, Any]]


def methods() -> Rows:
    """Name and summary of every method in the folder, read without importing any."""
    found = [method.describe(method.folder() / f"{name}.py") for name in method.names()]
    return [{"method": one.name, "what it is": one.summary, "fields": ", ".join(one.fields)} for one in found]


def all_suites() -> Rows:
    """The suites and tracks that ship with the package; published figures can be scored on all of them."""
    return [_suite_row(suites.load(name) if suites.is_suite(name) else suites.panel(name)) for name in suites.panel_names()]


def _suite_row(found: suites.Panel | suites.Track) -> dict[str, Any]:
    about: dict[str, Any] = {"suite": found.name, "title": found.title}
    if isinstance(found, suites.Track):
        return about | {"rbft": "track", "ID test": "each suite's", "shifts": f"suites: {', '.join(found.suites)}"}
    verbs = "evaluate, score" if isinstance(found, suites.Suite) else "score"
    return about | {"rbft": verbs, "ID test": found.test.name, "shifts": ", ".join(s.name for s in found.shifts)}


def models() -> Rows:
    """The built-in start model and open_clip's pretrained ones."""
    import open_clip

    pretrained = [{"model": name, "pretrained": tag} for name, tag in open_clip.list_pretrained()]
    return [{"model": "mini-clip", "pretrained": "in the package"}, *pretrained]


def lines() -> Rows:
    """The baseline lines that ship with the package."""
    found = [baselines.load(name) for name in baselines.names()]
    return [{"baseline": b.id, "suite": b.suite, "models": len(b.models), "hash": b.hash[:12]} for b in found]


LISTS: dict[str, Callable[[], Rows]] = {
    "methods": methods,
    "suites": all_suites,
    "datasets": data_show.listed,
    "models": models,
    "baselines": lines,
}
WIDTHS = {"methods": [None, 78], "datasets": [None, 40, 44], "suites": [None, 40, None, None, 60]}
FEW = 8  # class names that a suite is shown with


def listing(what: str, *, as_json: bool) -> str:
    """A table of one kind of thing; UnknownName where it is no kind."""
    if what not in LISTS:
        raise UnknownName("list", what, LISTS, hint="rbft list methods")
    rows = LISTS[what]()
    widths = WIDTHS.get(what)
    shown = [{k: v for k, v in row.items() if k != "fields"} for row in rows]
    return printed_json(rows) if as_json else tabulate(shown, headers="keys", maxcolwidths=widths)


def show(name: str, *, suite: str, as_json: bool) -> str:
    """A baseline line (``mini@1``), a suite, a data set or a method, in full; where a suite and a data set share a name, both."""
    if "@" in name:
        return _show_baseline(name, as_json=as_json)
    if data_show.is_dataset(name):
        return _show_dataset(name, as_json=as_json)
    if suites.is_suite(name):
        return _show_suite(suites.load(name), as_json=as_json)
    if name.lower() in suites.panel_names():
        return _show_panel(suites.panel(name), as_json=as_json)
    versions = [known for known in baselines.names() if known.startswith(f"{name}@")]
    if versions:
        raise UnknownName("baseline", name, versions, hint=f"rbft show {versions[-1]}")
    return _show_method(name, suite=suite, as_json=as_json)


def _show_dataset(name: str, *, as_json: bool) -> str:
    """A data set; below the suite of its name, where there is one."""
    found = datafiles.load(name)
    suite = suites.panel(name) if not name.endswith(".toml") and name.lower() in suites.panel_names() else None
    suite = suites.load(name) if suite is not None and suites.is_suite(name) else suite
    if as_json:
        about = suite.model_dump(mode="json") | {"dataset": data_show.as_json(found)} if suite else data_show.as_json(found)
        return printed_json(about)
    if suite is None:
        return data_show.show(found)
    above = _show_suite(suite, as_json=False) if isinstance(suite, suites.Suite) else _show_panel(suite, as_json=False)
    return f"Suite {suite.name}: {above}\n\nData set {found.name}: {data_show.show(found)}"


def _show_method(name: str, *, suite: str, as_json: bool) -> str:
    value = method.configure(name, recipe_table=suites.load(suite).recipes)
    if as_json:
        return printed_json({"doc": type(value).__doc__, "config": value.dump()})
    rows = [(path, json.dumps(v)) for path, v in _flat(value.dump()) if path != "method"]
    return f"{type(value).__doc__}\n\nFields on {suite} (change one with --set FIELD=VALUE):\n\n{tabulate(rows)}"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [pair for key, child in items for pair in _flat(child, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, value)]


def _show_suite(suite: suites.Suite, *, as_json: bool) -> str:
    if as_json:
        return suite.model_dump_json(indent=1)
    roles = [("train", suite.train), ("val", suite.val), ("test (ID)", suite.test), *(("shift", s) for s in suite.shifts)]
    rows = [(role, s.name, _of(s), s.n, s.metric, "yes" if s.headline else "no", (s.digest or "")[:12]) for role, s in roles]
    more = f" ... {len(suite.classes)} in all" if len(suite.classes) > 3 * FEW else ""
    classes = ", ".join(suite.classes[:FEW] if more else suite.classes) + more
    head = [f"{suite.title} (version {suite.version}, protocol {suite.protocol[:12]})", "", f"start {suite.start}"]
    head += [f"baseline {suite.baseline}", f"classes {classes}", f"templates {len(suite.templates)}", ""]
    return "\n".join(head) + "\n" + tabulate(rows, headers=["role", "set", "data set", "n", "metric", "in the mean", "digest"])


def _of(spec: DatasetSpec) -> str:
    """Data set and official split of a set, and the part of it: ``imagenet/train, val part``."""
    part = f", {spec.part} part" if spec.part else ""
    return f"{spec.dataset or spec.format}/{spec.split}{part}" + (", own head" if spec.head == "own" else "")


def _show_panel(found: suites.Panel | suites.Track, *, as_json: bool) -> str:
    """A suite or track that published figures and tables are scored on, and that rbft evaluate does not read."""
    if as_json:
        return found.model_dump_json(indent=1)
    sets = found.sets if isinstance(found, suites.Track) else found.tests
    rows = [(s.name, s.n, s.metric, "yes" if s.headline else "no", ", ".join(s.aliases)) for s in sets]
    what = (
        "a track: the suites below, one by one"
        if isinstance(found, suites.Track)
        else "for rbft score: tables and published figures"
    )
    head = [f"{found.title} ({what})", ""]
    if isinstance(found, suites.Track):
        head += [f"suites {', '.join(found.suites)}", ""]
    if isinstance(found, suites.Panel):
        head += [f"baseline {found.baseline or f'none: {found.no_baseline}'}", ""]
    table = tabulate(
        rows, headers=["set", "n", "metric", "in the mean", "also called"], maxcolwidths=[None, None, None, None, 60]
    )
    return "\n".join(head) + "\n" + table


def _show_baseline(name: str, *, as_json: bool) -> str:
    baseline = baselines.load(name)
    known = [suites.panel(one) for one in suites.panel_names()]
    panels = [panel for panel in known if isinstance(panel, suites.Panel) and not panel.variant_of]
    panels = [panel for panel in panels if panel.test.name == baseline.id_set]
    panels = panels or [baseline.panel()]
    return printed_json(baseline.to_json(panels)) if as_json else score_tables.baseline_table(baseline, panels)


def doctor(*, as_json: bool) -> str:
    """Versions, device, threads and disk; what is in the way, if anything."""
    import torch

    folder = default_folder()
    near = next(parent for parent in (folder, *folder.parents) if parent.exists())
    packages = ("robustbench-ft", "torch", "torchvision", "open_clip_torch", "timm", "numpy", "pydantic", "typer")
    facts = {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu (no CUDA device)",
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "store": str(folder),
        "free in store": f"{shutil.disk_usage(near).free / 1e9:.1f} GB",
    }
    return printed_json(facts) if as_json else tabulate(facts.items(), tablefmt="plain")
