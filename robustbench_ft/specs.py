"""Test sets and splits of data sets as data. Nothing here opens an image or imports torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from robustbench_ft.values import Value

Groups = tuple[tuple[int, ...], ...]
Metric = Literal["top1", "pm", "mean-per-class", "macro-f1", "worst-region"]
"""``pm``: anchors whose every reviewed neighbour within ``within`` frames is right too, of all anchors."""


LOCATING = frozenset({"folder", "mirror"})
"""Options that say where a split lies and what it is called there: they may learn more names under the same protocol."""


class TestSet(Value):
    """What a score needs to know of a test set: all that is known of one that is only met in published figures."""

    __test__ = False

    name: str
    """Name in tables and packs, for example ``mini-sketch``."""
    n: int | None = None
    """Number of examples when complete; anchors of the video sets; None: nobody says."""
    metric: Metric = "top1"
    headline: bool = True
    """Whether it counts in the OOD mean."""
    subset: int | None = None
    """Number of classes of a set that has not all of the suite's: only such a set has a class-matched ID axis."""
    aliases: tuple[str, ...] = ()
    """Other names that tables give it; matched like the name, without regard to case, dashes and dots."""

    @property
    def measure(self) -> str:
        """What its value is called."""
        if self.metric == "pm":
            return "pm-k accuracy"
        known = {"macro-f1": "macro-F1", "worst-region": "worst-region accuracy", "mean-per-class": "mean per-class accuracy"}
        return known.get(self.metric, "accuracy")

    @property
    def binomial(self) -> bool:
        """Whether the value is a share of ``n`` right answers, so that it has an interval without predictions."""
        return self.metric in ("top1", "pm")


class DatasetSpec(TestSet):
    """One split of one data set: what differs between test sets is fields, what differs between formats is a reader."""

    n: int
    """Number of examples when complete; of the video sets frames, not anchors."""
    unconfirmed: bool = False
    """Whether ``n`` is hearsay: another number is said, and not refused, where the set's own metadata name its images."""
    format: str
    """The reader: a module of ``robustbench_ft.datasets``."""
    path: str
    """Where it lies: a folder or file under the data root (``--data``), or what the reader generates it from."""
    also: tuple[str, ...] = ()
    """Other places under the data root where it is looked for, in order, when ``path`` is not there."""
    split: str
    """The official split, as the reader knows it."""
    part: Literal["train", "val", "train-a", "train-b"] | None = None
    """A part of the split, decided by hashes of ids (``robustbench_ft.carve``)."""
    val_per_class: int | None = None
    """Size of the carved val per class; None: ``carve.default_val_per_class``."""
    track: str | None = None
    """Of GTSRB: the column of the reader whose members are carved together, so that frames of one track never part."""
    mask: tuple[str, str] | None = None
    """A .npy file under the data root that decides ``part`` in place of hashes (1: val), and its checksum."""
    mask_check: tuple[int, str] | None = None
    """What the mask has to agree with: how many of its members come before one, and how that one's id ends."""
    mask_source: str = ""
    """Where the mask file comes from."""
    shots: int | None = Field(default=None, ge=1)
    """Few-shot: only this many examples of each class, chosen by hashes."""
    shots_seed: int = 0
    options: dict[str, str | int] = {}
    """What the reader needs to know beside, for example ``{"crop": 2}``; each reader lists what it takes."""
    digest: str | None = None
    """SHA-256 of ids, labels and, for generated sets, pixels (``datasets.content_digest``); None: not known."""
    dataset: str = ""
    """The data set file that it comes from (``rbft list datasets``); empty: it is written out in a suite file."""
    classes: tuple[str, ...] = ()
    """Its class names, by label."""
    folders: tuple[str, ...] = ()
    """What the classes are called on disk, by label."""
    templates: tuple[str, ...] = ()
    """Its own prompts, for a head of its own."""
    head: Literal["suite", "own"] = "suite"
    """Which head reads it: the suite's, or a zero-shot head of its own names and templates from the current text tower."""
    class_groups: Groups | None = None
    """For each class of the set, the suite's classes that count for it (max over them); None: the suite's own classes."""
    images_of: str | None = None
    """Another set of the suite whose images and answers it shares, to score them by another metric."""
    within: int | None = None
    """Of ``pm``: neighbours at most this many frames from their anchor count."""
    val: DatasetSpec | None = None
    """Of a supported task: its val set, which methods that declare so may look at (``Task.supported``)."""
    keep: str | None = None
    """File with one index a line: the members of the split that belong to this set."""
    checksums: tuple[tuple[str, str], ...] = ()
    """Official files with their checksums (``robustbench_ft.checksums``): ``["test_batch", "md5:4035..."]``; none: not known."""
    source: str = ""
    licence: str = ""
    superseded_by: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _subset_from_groups(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"subset": len(values["class_groups"])} | values if values.get("class_groups") else values

    @property
    def images(self) -> str:
        """The name that its answers are filed under."""
        return self.images_of or self.name

    def decisive(self) -> dict[str, Any]:
        """What decides a score on it, as JSON: goes into the protocol hash."""
        fields = {"name", "digest", "n", "metric", "head", "class_groups", "headline"}
        later = {"images_of", "within", "shots", "shots_seed"}
        if self.digest is None and self.dataset:
            later |= {"dataset", "split", "part", "val_per_class", "track", "mask"}
        if self.head == "own":
            later |= {"classes", "templates"}
        found = self.model_dump(mode="json", include=fields | later)
        given = {name for name in later if getattr(self, name) != type(self).model_fields[name].default}
        options = {name: value for name, value in self.options.items() if name not in LOCATING}
        kept = {name: value for name, value in found.items() if name in fields | given}
        return kept | ({"options": options} if options else {})
