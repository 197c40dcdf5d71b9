"""Predictions and answer key in, counts out; and the check that a record's counts are those of its pack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_ft import packs, records, suites
from robustbench_ft.errors import CheckError, DataError, ProtocolError
from robustbench_ft.packs import Answers, Pack
from robustbench_ft.records import Counts, RunRecord
from robustbench_ft.specs import Groups
from robustbench_ft.suites import Suite
from robustbench_ft.yardstick import own

if TYPE_CHECKING:
    from robustbench_ft.summaries import Summaries

RECORD, PACK = "record.json", "pack.safetensors"
NO_LABEL = -1

Labels = npt.NDArray[np.int64]
Hits = Mapping[str, npt.NDArray[np.bool_]]
"""Per ``<test set>/<grouping>``, bool [N]: whether each counted image was answered right."""


def counts_of(hits: Hits) -> dict[str, Counts]:
    """Right answers and images per ``<test set>/<grouping>`` (top-1)."""
    return {name: Counts(k=int(np.count_nonzero(right)), n=len(right)) for name, right in hits.items()}


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


def hits_of(labels: Labels, answers: Mapping[str, Answers], groupings: Mapping[str, Groups | None]) -> Hits:
    """Per name in ``answers`` (``<test set>/<grouping>``), right or wrong for each image that the grouping counts.

    ``labels``: int [N], the set's own; ``answers``: uint16 [N] under each grouping.
    """
    hits: dict[str, npt.NDArray[np.bool_]] = {}
    for name, given in answers.items():
        grouping = name.rpartition("/")[2]
        expected = grouped_labels(labels, None if grouping == "own" else groupings[grouping])
        counted = expected != NO_LABEL
        hits[name] = given[counted] == expected[counted]
    return hits


def key_of(suite: Suite) -> Pack:
    """The suite's answer key: a pack beside its file with ``answers["<test set>/own"]`` = labels."""
    return packs.load(suite.file.with_suffix(".key.safetensors"))


def score(pack: Pack, key: Pack, suite: Suite) -> Hits:
    """Per image, right or wrong, for every test set of the pack under each of its groupings.

    ProtocolError where pack, key and suite are not of one protocol or not of the same images; DataError where a
    length is wrong.
    """
    for what, protocol in (("pack", pack.protocol), ("answer key", key.protocol)):
        if protocol != suite.protocol:
            raise ProtocolError(f"the {what} has protocol {protocol[:12]}, suite {suite.name} {suite.protocol[:12]}")
    hits: dict[str, npt.NDArray[np.bool_]] = {}
    for spec in suite.tests:
        if own(spec.name) not in pack.answers:
            continue
        if pack.digests.get(spec.name) != key.digests.get(spec.name):
            raise ProtocolError(f"{spec.name}: the pack's images are not the answer key's (content digests differ)")
        truth = key.answers.get(own(spec.name))
        for grouping, groups in suite.groupings(spec):
            name = f"{spec.name}/{grouping}"
            answers = pack.answers.get(name)
            if truth is None or answers is None or len(answers) != len(truth):
                found, expected = ("nothing" if x is None else f"{len(x)} images" for x in (answers, truth))
                raise DataError(f"{name}: the pack has {found}, the answer key {expected}")
            labels = grouped_labels(truth, None if grouping == "own" else groups)
            counted = labels != NO_LABEL
            hits[name] = answers[counted] == labels[counted]
    return hits


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

    def scored(data: bytes) -> Hits:
        pack = packs.decode(data, path)
        try:
            return score(pack, key or key_of(suite), suite)
        except (ProtocolError, DataError) as error:
            raise type(error)(f"{path}: {error}", hint=error.hint) from error

    if kept:
        sha, hits = kept.hits(path, scored)
    else:
        data = packs.read(path)
        sha, hits = hashlib.sha256(data).hexdigest(), scored(data)
    if record.headline.pack != sha:
        raise CheckError(f"{path}: SHA-256 is {sha}, the record says {record.headline.pack}")
    _compare(record.headline.counts, hits, folder)
    return hits


def _compare(stated: dict[str, Counts], hits: Hits, folder: Path) -> None:
    claimed = {name: (counts.k, counts.n) for name, counts in stated.items()}
    counted = {name: (int(np.count_nonzero(right)), len(right)) for name, right in hits.items()}
    for name in sorted(claimed.keys() | counted.keys()):
        if claimed.get(name) != counted.get(name):
            told, found = ("{} of {}".format(*c[name]) if name in c else "nothing" for c in (claimed, counted))
            raise CheckError(f"{folder / RECORD}: {name}: the record says {told}, {folder / PACK} gives {found}")
