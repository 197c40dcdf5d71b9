"""Predictions and answer key in, counts out; and the check that a record's counts are those of its pack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robustbench_ft import packs, records, suites, tallies
from robustbench_ft.errors import CheckError, DataError, MissingData, ProtocolError
from robustbench_ft.files import default_folder
from robustbench_ft.packs import Answers, Pack
from robustbench_ft.records import Counted, Counts, RunRecord
from robustbench_ft.specs import DatasetSpec, Groups
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import own

if TYPE_CHECKING:
    from robustbench_ft.summaries import Summaries

RECORD, PACK = "record.json", "pack.safetensors"
KEYS = "keys"
NO_LABEL = -1
NONE = 65535
"""How a key writes NO_LABEL."""

Labels = npt.NDArray[np.int64]
Columns = Mapping[str, Labels]
Hits = Mapping[str, npt.NDArray[Any]]
"""Per ``<test set>/<grouping>``: for shares of right answers bool [n], whether each counted image (or anchor) was right; for
other metrics float64 [B], their bootstrap as if it were images (``tallies.as_images``)."""


class Scored(NamedTuple):
    """What predictions and answers give."""

    counts: dict[str, Counted]
    hits: Hits


@dataclass(frozen=True)
class Truth:
    """The right answers of one set of images: labels, int64 [N], and what metrics need beside (``ImageSet.columns``)."""

    labels: Labels
    columns: Columns


def counts_of(hits: Hits) -> dict[str, Counts]:
    """Right answers and images per ``<test set>/<grouping>``, of those that are shares of right answers."""
    return {name: Counts(k=int(np.count_nonzero(right)), n=len(right)) for name, right in hits.items() if right.dtype == np.bool_}


def grouped_labels(labels: npt.NDArray[Any], groups: Groups | None) -> Labels:
    """[N] the group that each class belongs to, NO_LABEL for classes in none; the labels themselves without groups.

    Under a shift's grouping the ID test set is restricted to the shift's classes: the class-matched axis (DESIGN 7.1).
    """
    if groups is None:
        return labels.astype(np.int64)
    size = 1 + max(int(labels.max(initial=0)), max((index for group in groups for index in group), default=0))
    group_of = np.full(size, NO_LABEL, np.int64)
    for number, group in enumerate(groups):
        group_of[list(group)] = number
    grouped: Labels = group_of[labels]
    return grouped


def scored(suite: Suite, spec: DatasetSpec, answers: Mapping[str, Answers], truth: Truth) -> Scored:
    """What the answers on the images of ``spec`` give: it, and every set of the suite that shares its images.

    ``answers``: uint16 [N] per grouping. The ID test set is also scored under each shift's grouping, restricted to the
    shift's classes, by top-1.
    """
    counts: dict[str, Counted] = {}
    hits: dict[str, npt.NDArray[Any]] = {}
    for one in suite.tests:
        if one.images != spec.name:
            continue
        name = own(one.name)
        if one.binomial:
            hits[name] = _right(one, answers["own"], truth)
        else:
            metric: Any = one.metric
            args = metric, answers["own"], truth.labels, truth.columns, len(one.classes)
            counts[name], hits[name] = tallies.tally(*args), tallies.as_images(*args, name=one.name)
    for grouping, groups in suite.groupings(spec):
        if grouping != "own":
            labels = grouped_labels(truth.labels, groups)
            counted = labels != NO_LABEL
            right = answers[suite.spec(grouping).images][counted] == labels[counted]
            hits[f"{spec.name}/{grouping}"] = right
    return Scored({**counts, **counts_of(hits)}, hits)


def _right(spec: DatasetSpec, answers: Answers, truth: Truth) -> npt.NDArray[np.bool_]:
    """Bool [N], or [A] for the anchors of a video set: right where each frame within ``spec.within`` of the anchor is."""
    right: npt.NDArray[np.bool_] = answers == truth.labels
    for name, also in truth.columns.items():
        if name.startswith("also-"):
            right = right | ((answers == also) & (also != NO_LABEL))
    if spec.metric != "pm":
        return right
    near = truth.columns["distance"] <= (0 if spec.within is None else spec.within)
    wrong = np.zeros(int(truth.columns["anchor"].max()) + 1, np.int64)
    np.add.at(wrong, truth.columns["anchor"][near & ~right], 1)
    whole: npt.NDArray[np.bool_] = wrong == 0
    return whole


def key_of(suite: Suite, folder: Path | None = None) -> Pack:
    """The suite's answer key: a pack with the labels of each test set, ``<set>/own``, and its columns, ``<set>/@<column>``.

    It lies beside the suite's file or, for data sets whose labels the package does not hold, in the store (``folder``, by
    default the user's), where ``rbft evaluate`` and ``rbft data index`` leave it. MissingData where it is in neither.
    """
    path = suite.file.with_suffix(".key.safetensors")
    path = path if path.is_file() else key_file(folder or default_folder(), suite)
    if not path.is_file():
        told = f"the right answers of suite {suite.name} are not on this machine"
        raise MissingData(told, hint=f"rbft data index --suite {suite.name} --data DIR reads them from the data sets")
    key = packs.load(path)
    return key._replace(protocol=suite.protocol) if key.protocol == suite.tested_as else key


def key_file(folder: Path, suite: Suite) -> Path:
    """Where the answer key of a suite is kept below a store's folder."""
    return folder / KEYS / f"{suite.protocol}.safetensors"


def keep_key(folder: Path, suite: Suite, name: str, truth: Truth, digest: str) -> None:
    """Add one test set's answers to the key that is kept of a suite."""
    path = key_file(folder, suite)
    old = packs.load(path) if path.is_file() else Pack(suite.protocol, {}, {})
    if old.digests.get(name) == digest:
        return
    columns = {f"{name}/@{column}": values for column, values in truth.columns.items()}
    new = {key: _as_answers(values) for key, values in ({own(name): truth.labels} | columns).items()}
    rest = {key: values for key, values in old.answers.items() if key.rpartition("/")[0] != name}
    packs.save(Pack(suite.protocol, old.digests | {name: digest}, rest | new), path)


def _as_answers(values: Labels) -> Answers:
    return np.where(values == NO_LABEL, NONE, values).astype(np.uint16)


def truth_of(key: Pack, name: str) -> Truth | None:
    """The right answers of one test set in a key; None where it does not hold them."""
    if own(name) not in key.answers:
        return None
    prefix = f"{name}/@"
    labels = key.answers[own(name)].astype(np.int64)
    columns = {one.removeprefix(prefix): given.astype(np.int64) for one, given in key.answers.items() if one.startswith(prefix)}
    return Truth(labels, {column: np.where(values == NONE, NO_LABEL, values) for column, values in columns.items()})


def score(pack: Pack, key: Pack, suite: Suite) -> Scored:
    """What the answers of a pack give, for every test set under each of its groupings.

    ProtocolError where pack, key and suite are not of one protocol or not of the same images; DataError where a
    length is wrong.
    """
    for what, protocol in (("pack", pack.protocol), ("answer key", key.protocol)):
        if protocol != suite.protocol:
            raise ProtocolError(f"the {what} has protocol {protocol[:12]}, suite {suite.name} {suite.protocol[:12]}")
    counts: dict[str, Counted] = {}
    hits: dict[str, npt.NDArray[Any]] = {}
    for spec in suite.read:
        if own(spec.name) not in pack.answers:
            continue
        truth = truth_of(key, spec.name)
        if truth and pack.digests.get(spec.name) != key.digests.get(spec.name):
            raise ProtocolError(f"{spec.name}: the pack's images are not the answer key's (content digests differ)")
        answers = {}
        for grouping in suite.packed(spec):
            name = f"{spec.name}/{grouping}"
            given = pack.answers.get(name)
            if truth is None or given is None or len(given) != len(truth.labels):
                both = given, truth.labels if truth else None
                found, expected = ("nothing" if x is None else f"{len(x)} images" for x in both)
                raise DataError(f"{name}: the pack has {found}, the answer key {expected}")
            answers[grouping] = given
        assert truth is not None
        found_here = scored(suite, spec, answers, truth)
        counts |= found_here.counts
        hits |= found_here.hits
    return Scored(counts, hits)


def recount(folder: Path, suite: Suite | None = None, key: Pack | None = None) -> tuple[RunRecord, Hits]:
    """The record of a run folder, and ``headline_hits``."""
    record = records.load(folder / RECORD)
    return record, headline_hits(record, folder, suite or suites.load(record.suite), key)


def headline_hits(record: RunRecord, folder: Path, suite: Suite, key: Pack | None = None, kept: Summaries | None = None) -> Hits:
    """The hits of the record's headline, after checking every one of its counts against the pack in ``folder``.

    ``kept``: what packs gave that were scored before with this suite and key. CheckError names the file, the set and both
    numbers; ProtocolError where record, pack and suite differ in protocol.
    """
    if record.protocol != suite.protocol:
        raise ProtocolError(
            f"{folder / RECORD}: protocol {record.protocol[:12]}, but suite {suite.name} is now {suite.protocol[:12]}",
            hint=f"rbft evaluate --method {record.method} --suite {suite.name}",
        )
    path = folder / PACK

    def scored_pack(data: bytes) -> Scored:
        pack = packs.decode(data, path)
        try:
            return score(pack, key or key_of(suite), suite)
        except (ProtocolError, DataError) as error:
            raise type(error)(f"{path}: {error}", hint=error.hint) from error

    if kept:
        sha, found = kept.scored(path, scored_pack)
    else:
        data = packs.read(path)
        sha, found = hashlib.sha256(data).hexdigest(), scored_pack(data)
    if record.headline.pack != sha:
        raise CheckError(f"{path}: SHA-256 is {sha}, the record says {record.headline.pack}")
    _compare(record.headline.counts, found.counts, folder)
    return found.hits


def _compare(claimed: Mapping[str, Counted], counted: Mapping[str, Counted], folder: Path) -> None:
    for name in sorted(claimed.keys() | counted.keys()):
        if claimed.get(name) != counted.get(name):
            told, found = (_told(counts.get(name)) for counts in (claimed, counted))
            raise CheckError(f"{folder / RECORD}: {name}: the record says {told}, {folder / PACK} gives {found}")


def _told(counts: Counted | None) -> str:
    if counts is None:
        return "nothing"
    if isinstance(counts, Counts):
        return f"{counts.k} of {counts.n}"
    return f"{counts.metric} {counts.accuracy:.6f} from {sum(counts.right)} of {sum(counts.of)}"
