"""Where a data set lies under the data root, and what is said when it does not."""

from __future__ import annotations

from pathlib import Path

from robustbench_ft.checksums import verify
from robustbench_ft.errors import MissingData, UnknownName
from robustbench_ft.specs import DatasetSpec


def place(spec: DatasetSpec, root: Path | None) -> Path:
    """The first of ``path`` and ``also`` that exists under the data root; MissingData says where it was looked for."""
    if root is None:
        raise MissingData(f"{spec.name} is read from disk and no data folder was given", hint=f"--data DIR; {how(spec, None)}")
    candidates = [root / path for path in (spec.path, *spec.also)]
    for path in candidates:
        if path.exists():
            return path
    looked = " or ".join(map(str, candidates))
    raise MissingData(f"{spec.name}: nothing at {looked}", hint=how(spec, root))


def options(spec: DatasetSpec, *known: str) -> dict[str, str | int]:
    """What the spec tells its reader beside; UnknownName for an option that the reader does not take."""
    for name in spec.options:
        if name not in known:
            raise UnknownName(f"option of {spec.name} (format {spec.format}):", name, known)
    return spec.options


def how(spec: DatasetSpec, root: Path | None) -> str:
    """What to do to get a data set that is missing."""
    if spec.dataset:
        return f"rbft data prepare {spec.dataset} --data {root or 'DIR'}"
    return f"get {spec.source}" if spec.source else f"put it at {(root or Path('DIR')) / spec.path}"


def official(spec: DatasetSpec, path: Path, hint: str) -> Path:
    """``path``, a file of a data set; MissingData unless it is there, DataError unless its checksum is the one that is known."""
    if not path.is_file():
        raise MissingData(f"{spec.name}: no file {path}", hint=hint)
    for name, expected in spec.checksums:
        if name == path.name:
            verify(path, expected, hint=hint)
    return path
