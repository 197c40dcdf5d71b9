"""Tables of accuracies in, figures by test set out: what ``rbft score TABLE`` and ``rbft baseline fit TABLE`` read.

``accuracy_formats`` knows how tables are written; this knows what their names and numbers mean to a suite.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from robustbench_ft import suites
from robustbench_ft.accuracy_formats import HINT, NUMBER, Entry, Sheet, parse, wrong
from robustbench_ft.errors import UnknownName, UsageError
from robustbench_ft.progress import say
from robustbench_ft.records import Figure
from robustbench_ft.specs import TestSet
from robustbench_ft.suites import Panel, Track
from robustbench_ft.yardstick import own

PREFIX = re.compile(r"^(clip-benchmark/)?((wds|vtab|tfds)[/_])+")
"""Where CLIP_benchmark got a data set from."""
STEP = re.compile(r"pm\d+$")
"""The measure in a video set's name: the set's classes are the same under each."""
RESTRICTED = re.compile(r"(?P<id>.+)[ _-]on[ _-](?P<on>.+)[ _-]classes|(?P<id_set>.+)/(?P<shift>.+)|(?P<wise_ft>.+)valclasses")
"""How tables write ID accuracy on a shift's classes: the testbed's way, that of run records, wise-ft's."""
FLOAT_DIGITS = 9
"""Decimals beyond which a float's own digits say nothing."""
UNSCORED = """
    caltech101 clevrclosestobjectdistance clevrcountall country211 diabeticretinopathy dmlab dspriteslabelorientation
    dspriteslabelxposition dspriteslabelyposition eurosat fer2013 fgvcaircraft flowers gtsrb imageneto imagenet2p imagenetw
    iwildcamidnonempty iwildcamoodnonempty kitticlosestvehicledistance mnist pcam pets renderedsst2 resisc45
    smallnorblabelazimuth smallnorblabelelevation stl10 svhn voc2007 voc2007multilabel
"""
"""What the tools also measure and no suite or track scores; ImageNet2p is a part of train that was held out."""


@dataclass(frozen=True)
class Table:
    """The accuracies of some models on the test sets of a suite."""

    panel: Panel
    models: dict[str, dict[str, Figure]]
    """Per model and ``<test set>/<grouping>``, as in run records; models in the file's order."""
    alphas: dict[str, float]
    """Where a model stands on a curve of weight-space ensembles, where the format says."""


def read(path: Path, suite: str | Panel | None = None, *, percent: bool = False) -> Table:
    """Read the table at ``path``; ``suite``: name, file or panel; None: the one suite that knows its data sets.

    UsageError where several suites do, or ``suite`` is a track; DataError for all that is wrong with the file.
    """
    sheet = parse(path)
    panels = _candidates(path, sheet) if suite is None else [suite if isinstance(suite, Panel) else _panel(suite)]
    panel = panels[0]
    keys = _keys(path, sheet, panel)
    if len(panels) > 1:
        known = " and ".join(other.name for other in panels)
        raise UsageError(f"{path}: the suites {known} know its data sets", hint=f"rbft score {path} --suite {panel.name}")
    table = _table(path, sheet, panel, keys, percent=percent)
    if not any(own(panel.test.name) in figures for figures in table.models.values()):
        what = f"no model has {panel.test.name}, the ID test set of suite {panel.name}, without which there is no score"
        raise wrong(path, "", what, hint=f"rbft score {path} --suite NAME; rbft list suites")
    return table


def columns(panel: Panel, text: str) -> tuple[str, ...]:
    """The keys of what a table calls ``text``: ``ImageNetV2`` is ``imagenet-v2/own``; none where nothing answers to it.

    Several for ID accuracy on a video set's classes, which is the same for each of its measures.
    """
    text = PREFIX.sub("", text.strip().casefold())
    name = plain(text.removesuffix("/own"))
    found = next((spec for spec in panel.tests if name in _names(spec)), None)
    if found:
        return (own(found.name),)
    base, shift = _restricted(text)
    if base and base not in _names(panel.test):
        return ()
    known = (spec for spec in panel.shifts if spec.subset is not None and _same_classes(spec, shift))
    return tuple(f"{panel.test.name}/{spec.name}" for spec in known)


def panel_of(path: Path, id_set: str, classes: int | None = None) -> Panel:
    """The panel of a table of test sets of one's own: all sets that it names, of which ``id_set`` is the ID test set.

    ``classes``: of the shifts for which the table has ID accuracy on their classes. UnknownName where no set is ``id_set``.
    """
    labels = dict.fromkeys(entry.dataset for entry in parse(path).entries)
    matched = {label: shift for label in labels for base, shift in [_restricted(label)] if shift and base in ("", plain(id_set))}
    named = {plain(label): label.replace("/", "-") for label in reversed(labels) if label not in matched}
    if plain(id_set) not in named:
        raise UnknownName("data set", id_set, named.values(), hint=f"rbft baseline fit {path} --id-set NAME")
    sets = {name: TestSet(name=named[name], subset=classes if name in matched.values() else None) for name in reversed(named)}
    test = sets.pop(plain(id_set))
    return Panel(name=f"own-{test.name}", title=test.name, test=test, shifts=tuple(sets.values()))


def partial(table: Table) -> dict[str, tuple[str, ...]]:
    """Per model that lacks any, the shifts of the OOD mean that it lacks."""
    shifts = table.panel.headline_shifts
    lacking = {m: tuple(spec.name for spec in shifts if own(spec.name) not in figures) for m, figures in table.models.items()}
    return {model: names for model, names in lacking.items() if names}


def plain(text: str) -> str:
    """What names are compared by: letters and digits, without regard to case."""
    return re.sub(r"[\W_]+", "", text.casefold())


def _restricted(text: str) -> tuple[str, str]:
    """ID set (empty: not said) and shift of a name that means ID accuracy on the shift's classes; empty for other names."""
    found = RESTRICTED.fullmatch(text.casefold())
    if not found:
        return "", ""
    base, shift = found["id"] or found["id_set"] or "", found["on"] or found["shift"] or found["wise_ft"]
    return plain(base), plain(shift)


def _names(spec: TestSet) -> set[str]:
    return {plain(name) for name in (spec.name, *spec.aliases)}


def _same_classes(spec: TestSet, name: str) -> bool:
    return name in _names(spec) if STEP.search(name) else name in {STEP.sub("", known) for known in _names(spec)}


def _panel(name: str) -> Panel:
    panel = suites.panel(name)
    if isinstance(panel, Track):
        raise UsageError(f"--suite {name}: a track of several data sets; expected a suite, with shifts", hint="rbft list suites")
    return panel


@functools.cache
def _shipped() -> tuple[Panel | Track, ...]:
    return tuple(map(suites.panel, suites.panel_names()))


def _candidates(path: Path, sheet: Sheet) -> list[Panel]:
    """The suites that know the most of the table's data sets; of these, those whose ID test set is there."""
    labels = dict.fromkeys(entry.dataset for entry in sheet.entries)
    ranks = {}
    for panel in _shipped():
        if isinstance(panel, Track) or panel.variant_of:
            continue
        found = [columns(panel, label) for label in labels]
        ranks[panel.name] = (sum(map(bool, found)), (own(panel.test.name),) in found), panel
    best = max(rank for rank, _ in ranks.values())
    if not best[0]:
        raise wrong(path, "", f"no suite knows any of its data sets ({', '.join(list(labels)[:5])} ...)", hint="rbft list suites")
    return [panel for rank, panel in ranks.values() if rank == best]


def _keys(path: Path, sheet: Sheet, panel: Panel) -> dict[str, tuple[str, ...]]:
    """Per name in the table the keys that it stands for: none where it is left out; DataError where it is unknown."""
    keys = {entry.dataset: columns(panel, entry.dataset) for entry in sheet.entries}
    strangers = {name for name, found in keys.items() if not found}
    for entry in sheet.entries:
        if entry.dataset in strangers and not (sheet.tool and _known_elsewhere(entry.dataset)):
            unknown = UnknownName("data set", entry.dataset, (spec.name for spec in panel.tests))
            hint = f"rbft score {path} --suite NAME; rbft list suites"
            raise wrong(path, f"{entry.where}, dataset", f"{unknown} (suite {panel.name})", hint=hint) from unknown
    if strangers:
        say(f"{path}: left out {', '.join(name for name in keys if name in strangers)}: not part of suite {panel.name}")
    return keys


def _known_elsewhere(name: str) -> bool:
    """Whether a tool measures it for another suite or track, or for none."""
    short = plain(PREFIX.sub("", name.casefold()))
    return short in UNSCORED.split() or any(
        any(short in _names(spec) for spec in known.sets) if isinstance(known, Track) else columns(known, name)
        for known in _shipped()
    )


def _table(path: Path, sheet: Sheet, panel: Panel, keys: dict[str, tuple[str, ...]], *, percent: bool) -> Table:
    specs = {spec.name: spec for spec in panel.tests}
    models: dict[str, dict[str, Figure]] = {}
    alphas: dict[str, float] = {}
    places: dict[tuple[str, str], str] = {}
    sizes: dict[str, tuple[int, str]] = {}
    finest = _finest(sheet)
    for entry in sheet.entries:
        for key in keys[entry.dataset]:
            spec = specs[key.partition("/")[0]]
            if entry.metric not in (None, spec.metric):
                continue
            if (entry.model, key) in places:
                first = places[entry.model, key]
                what = f"a second figure of {entry.model!r} on {key.removesuffix('/own')}; the first is in {first}"
                raise wrong(path, f"{entry.where}, {entry.field}", what)
            places[entry.model, key] = entry.where
            value = _value(path, entry, percent=percent)
            value = value if _exponent(value) <= finest else value.quantize(Decimal(1).scaleb(finest))
            figure = Figure(value=value, n=_size(path, entry, key, spec, sizes))
            models.setdefault(entry.model, {})[key] = figure
            if entry.alpha is not None:
                alphas[entry.model] = entry.alpha
    if percent and all(figure.value * 100 <= 1 for figures in models.values() for figure in figures.values()):
        say(f"{path}: with --percent no value is over 1%; are these fractions? rbft score {path}")
    return Table(panel, models, alphas)


def _finest(sheet: Sheet) -> int:
    """The exponent of the last decimal that the file's figures have: a tool writes 1,800 of 2,000 as 0.9, and means 0.9000.

    A table that somebody typed has the digits that it has: 0.
    """
    values = [Decimal(entry.value) for entry in sheet.entries if sheet.tool and NUMBER.fullmatch(entry.value)]
    return max(min((_exponent(value) for value in values), default=0), -FLOAT_DIGITS)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _value(path: Path, entry: Entry, *, percent: bool) -> Decimal:
    """The fraction, with the digits that the table gives."""
    value = Decimal(entry.value) if NUMBER.fullmatch(entry.value) else None
    if value is not None and value <= (100 if percent else 1):
        return value.scaleb(-2) if percent else value
    hint = HINT
    expected = "a percentage in [0, 100]" if percent else "a fraction in [0, 1]"
    if value is not None and value <= 100:
        expected, hint = f"{expected}; --percent reads percent", f"rbft score {path} --percent"
    raise wrong(path, f"{entry.where}, {entry.field}", f"{entry.value[:40] or 'empty'}: expected {expected}", hint=hint)


def _size(path: Path, entry: Entry, key: str, spec: TestSet, sizes: dict[str, tuple[int, str]]) -> int | None:
    """Examples: the table's own number, else the set's; None for a metric that is no share of them."""
    if not entry.n:
        return spec.n if spec.binomial and key == own(spec.name) else None
    if not re.fullmatch(r"0*[1-9]\d{0,17}", entry.n, re.ASCII):
        raise wrong(path, f"{entry.where}, n", f"{entry.n[:40]!r}; expected a whole number of examples, 1 or more")
    n, first = sizes.setdefault(key, (int(entry.n), entry.where))
    if n != int(entry.n):
        what = f"{entry.n} examples of {entry.dataset}; expected {n}, as in {first}"
        raise wrong(path, f"{entry.where}, n", what)
    return n if spec.binomial else None
