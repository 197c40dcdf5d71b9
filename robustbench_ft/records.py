"""The file formats of evidence: what was run and what came out, as counts.

Derived numbers (accuracies, effective robustness, ranks) are computed from these and never stored.
Right of the cut: no torch.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from robustbench_ft.errors import DataError
from robustbench_ft.files import canonical_json, digest, write_atomic
from robustbench_ft.tallies import Tallies
from robustbench_ft.values import Value, fault

SCHEMA = 1
PUBLISHED = "published.json"
"""The file of a source's published figures, in its folder below ``submissions/``."""
NOT_HASHED = {"cost", "created", "host"}


def known_schema(value: int) -> int:
    """Refuse the schema of a later version."""
    if value > SCHEMA:
        raise ValueError(f"schema {value} is later than this rbft reads ({SCHEMA}); upgrade robustbench-ft")
    return value


class Counts(Value):
    """k right answers of n."""

    k: int = Field(ge=0)
    n: int = Field(ge=1)

    @model_validator(mode="after")
    def _k_within_n(self) -> Counts:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} is more than n = {self.n}")
        return self

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return self.k / self.n

    @property
    def half(self) -> float:
        """Half a unit of the last digit: none was rounded away."""
        return 0.0


class Figure(Value):
    """An accuracy as somebody printed it: a fraction with as many decimals as were given."""

    value: Decimal = Field(ge=0, le=1)
    n: int | None = Field(default=None, ge=1)
    """Examples; None where they are not known, or where the metric is no share of right answers: no interval then."""

    @field_validator("value", mode="before")
    @classmethod
    def _digits_kept(cls, value: Any) -> Any:
        if isinstance(value, float):
            raise ValueError('a number loses its last zeros; write it as text, for example "0.70"')
        return value

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return float(self.value)

    @property
    def half(self) -> float:
        """Half a unit of the last decimal; 0 for a whole 0 or 1, which says nothing of its digits."""
        exponent = self.value.as_tuple().exponent
        return 0.5 * 10.0**exponent if isinstance(exponent, int) and exponent < 0 else 0.0


Counted = Counts | Tallies
"""What a record holds of a test set, by its metric."""
Accuracy = Counts | Tallies | Figure
"""What a score is computed from: ``accuracy``, ``n`` and ``half``."""


class StartRef(Value):
    """The start model: its name as on the command line and the SHA-256 of its weights."""

    name: str
    weights: str


class Numerics(Value):
    """What decides the last bits of a prediction."""

    device: str
    precision: str
    batch_size: int
    threads: int
    """CPU threads of torch; 0 where the device is not the CPU."""


class Point(Value):
    """One classifier of a run: the headline, or one more point of the method's path."""

    name: str
    """For example ``alpha=0.5``; a method without a path has one point, named like the method."""
    alpha: float | None = Field(default=None, allow_inf_nan=False)
    """Where the point stands on a curve of weight-space ensembles; None elsewhere."""
    headline: bool = False
    pack: str | None = None
    """SHA-256 of the headline's pack file ``<record>/pack.safetensors``; other points carry counts alone."""
    counts: dict[str, Counted]
    """Per ``<test set>/<grouping>``."""


class Cost(Value):
    """What the run took; not part of the record's hash."""

    fit_seconds: float
    evaluate_seconds: float


class RunRecord(Value):
    """One (suite, start, method, seed): what was asked, on what, and the counts that came out."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: Literal["run"] = "run"
    schema_version: int = Field(default=SCHEMA, alias="schema")
    suite: str
    protocol: str
    start: StartRef
    method: str
    config: dict[str, Any]
    """The method's dump; opaque here."""
    sources: dict[str, str] = {}
    """SHA-256 of the file of each method in ``config``."""
    deterministic: bool
    """Whether the method declares that its seed changes nothing."""
    seed: int
    selection: dict[str, str]
    """Per field of the method, the rule that chose its value: default, id_val, oracle or unstated (DESIGN 7.5)."""
    points: tuple[Point, ...]
    missing: tuple[str, ...] = ()
    """Test sets that were not evaluated: not empty means that the run is partial."""
    unaligned: tuple[str, ...] = ()
    """Data sets read from a layout that is not the official one: scored, never submitted."""
    numerics: Numerics
    versions: dict[str, str]
    commit: str | None
    dirty: bool | None
    cost: Cost
    created: str
    host: str

    _known_schema = field_validator("schema_version")(known_schema)

    @model_validator(mode="after")
    def _one_headline_and_names_once(self) -> RunRecord:
        if sum(point.headline for point in self.points) != 1:
            raise ValueError("exactly one point is the headline")
        if len({point.name for point in self.points}) < len(self.points):
            raise ValueError("two points have the same name")
        return self

    @property
    def headline(self) -> Point:
        """The point that stands for the run."""
        return next(point for point in self.points if point.headline)

    @property
    def partial(self) -> bool:
        """Whether a test set of the suite is missing."""
        return bool(self.missing)

    @property
    def record_hash(self) -> str:
        """SHA-256 of all but cost, date and host."""
        return digest(self.model_dump(mode="json", by_alias=True, exclude=NOT_HASHED))

    def save(self, path: Path) -> None:
        """Write as JSON, indented for review."""
        import json

        value = json.loads(canonical_json(self.model_dump(mode="json", by_alias=True)))
        write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


class PublishedRecord(Value):
    """One row of a paper's or a repository's table: a model, and its figures."""

    suite: str
    """The suite or track (``rbft list suites``) whose test sets ``values`` names."""
    table: str
    """Where in the source, for example ``Table 5``."""
    start: str
    """Start model, for example ``ViT-B/16``."""
    method: str
    """As on the command line where rbft has it: ``zeroshot``, ``wiseft``; else the source's word in lower case."""
    variant: str = ""
    """What tells it from the source's other rows of this method, for example ``over lp``."""
    alpha: float | None = Field(default=None, ge=0, le=1)
    curve: bool = False
    """A point of an alpha curve that is drawn and not listed."""
    provenance: Literal["own", "rerun", "repository", "quoted", "user"]
    """Who ran it: the method's authors, authors of another paper, its code repository; or it is quoted from elsewhere."""
    selection: dict[str, str] = {}
    """Per hyperparameter, the rule that chose it: default, id_val, oracle or unstated."""
    values: dict[str, Figure] = Field(min_length=1)
    """Per test set of the suite."""
    note: str = ""


class Publication(Value):
    """Published figures of one source: ``submissions/<name>/published.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: Literal["published"] = "published"
    schema_version: int = Field(default=SCHEMA, alias="schema")
    source: str
    """Citation or repository with its commit."""
    short: str
    """Its name in tables, for example ``WiSE-FT``."""
    records: tuple[PublishedRecord, ...]

    _known_schema = field_validator("schema_version")(known_schema)


def load_publication(path: Path) -> Publication:
    """Read one file of published figures; DataError names the file, the record and the field."""
    try:
        return Publication.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"no published figures at {path}", hint="CONTRIBUTING.md, Published figures") from error
    except ValidationError as error:
        hint = "CONTRIBUTING.md, Published figures; rbft show imagenet lists its test sets"
        raise DataError(f"{path}: {fault(error)}", hint=hint) from error


def load(path: Path) -> RunRecord:
    """Read one run record; DataError names the file, the field and what is wrong with it."""
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        told = f"no record at {path}; expected a run or a submission"
        raise DataError(told, hint="rbft evaluate --method wiseft makes a run") from error
    except ValidationError as error:
        hint = "rbft evaluate writes records; one of a later schema needs pip install --upgrade robustbench-ft"
        raise DataError(f"{path}: {fault(error)}", hint=hint) from error
