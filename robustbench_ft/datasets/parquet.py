"""Images in parquet files of Hugging Face: columns ``image`` (struct of ``bytes`` and ``path``) and ``label``.

    <place>/data/<split>-00000-of-00014.parquet ...       or in the place itself

Needs pyarrow (``pip install 'robustbench-ft[parquet]'``). Images come out a row group at a time, of which each process
holds a few: reading in the mirror's order costs each group once, reading in any other about one group an image.
Options: ``id``, ``mirror`` (``robustbench_ft.datasets.mirrors``).
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from robustbench_ft.datasets import ImageSet
from robustbench_ft.datasets.images import BROKEN, decoded, image_set
from robustbench_ft.datasets.mirrors import Sample, hint, labelling, mirrored, splits
from robustbench_ft.datasets.places import how, options, place
from robustbench_ft.errors import DataError, MissingData, UsageError
from robustbench_ft.specs import DatasetSpec

GROUPS = 4  # row groups that a process holds; Hugging Face writes 100 images a group
NUMBERED = re.compile(r"-(\d+)-of-(\d+)\.parquet")


def read(spec: DatasetSpec, root: Path | None, store: Path) -> ImageSet:
    """The examples of the split's files; DataError names a file that is missing or damaged."""
    options(spec, "id", "mirror")
    base = place(spec, root)
    if found := files(spec, base):
        return read_files(spec, root, store, found)
    raise MissingData(f"{spec.name}: no parquet of {' or '.join(splits(spec))} in {base}", hint=how(spec, root))


def files(spec: DatasetSpec, base: Path) -> list[Path]:
    """The split's files below a place, in order; none where there are none."""
    for folder in (base / "data", base):
        for split in splits(spec):
            if found := sorted(folder.glob(f"{split}-*-of-*.parquet")):
                return found
    return []


def read_files(spec: DatasetSpec, root: Path | None, store: Path, found: Sequence[Path]) -> ImageSet:
    """The examples of these files."""
    help_ = hint(spec, root)
    _check(found, help_)
    listing = mirrored(spec, root, store, found, samples=lambda: _samples(spec, found, help_))
    return image_set(spec, found[0].parent, listing, Rows(found[0].parent, listing.files))


class Rows:
    """Image i, from a row of a file below ``folder``; DataError names one that cannot be read."""

    def __init__(self, folder: Path, places: Sequence[str]) -> None:
        self.folder, self.places = folder, places
        self._held: OrderedDict[tuple[int, str, int], Any] = OrderedDict()

    def __call__(self, index: int) -> Image.Image:
        """Image ``index``, decoded, in its own mode."""
        file, group, row = self.places[index].split("\t", 3)[:3]
        content = self._group(file, int(group))[int(row)].as_py()
        return decoded(content, f"{self.folder / file}: row {row} of group {group}")

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_held": OrderedDict()}

    def _group(self, file: str, group: int) -> Any:
        """The encoded images of a row group, the oldest group making room; none that was read before a fork."""
        key = (os.getpid(), file, group)
        if key not in self._held:
            self._held[key] = _column(self.folder / file, group)
            while len(self._held) > GROUPS:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


def _column(path: Path, group: int) -> Any:
    """The bytes of a row group's images; the file is opened anew, so that no worker shares another's place in it."""
    try:
        with _opened(path) as file:
            table = file.read_row_group(group, columns=["image.bytes"], use_threads=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=BROKEN) from error
    return table.column("image").combine_chunks().field("bytes")


def _opened(path: Path) -> Any:
    """The file, open; UsageError without pyarrow, OSError or ValueError when it is no parquet."""
    try:
        library = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise UsageError(f"{path} needs pyarrow to be read", hint="pip install 'robustbench-ft[parquet]'") from error
    return library.ParquetFile(path)


def _check(found: Sequence[Path], hint: str) -> None:
    """DataError unless all files are there that their names say there are."""
    names = {path.name for path in found}
    for path in found:
        if match := NUMBERED.search(path.name):
            stem, total = path.name[: match.start()], match[2]
            wanted = [f"{stem}-{number:0{len(match[1])}}-of-{total}.parquet" for number in range(int(total))]
            if wrong := sorted(names.symmetric_difference(wanted)):
                verb = "is missing" if wrong[0] in wanted else f"does not belong to the {int(total)} of {path.name}"
                raise DataError(f"{path.parent / wrong[0]} {verb}", hint=hint)


def _samples(spec: DatasetSpec, found: Sequence[Path], hint: str) -> list[Sample]:
    """All examples, in the order of the files."""
    samples: list[Sample] = []
    for path in found:
        try:
            with _opened(path) as file:
                label = labelling(spec, _class_names(file), str(path), hint)
                for group in range(file.num_row_groups):
                    samples += _rows(file, group, path, label)
        except (OSError, ValueError, KeyError, TypeError) as error:
            expected = "columns image (bytes, path) and label (integers)"
            raise DataError(f"{path} is truncated, or no parquet with the {expected}: {error}", hint=hint) from error
    return samples


def _rows(file: Any, group: int, path: Path, label: Callable[[int], int]) -> list[Sample]:
    """The examples of a row group."""
    table = file.read_row_group(group, columns=["image.path", "label"], use_threads=False)
    names = table.column("image").combine_chunks().field("path").to_pylist()
    labels = table.column("label").to_pylist()
    return [
        Sample(label(number), os.path.basename(name or ""), f"{path.name}\t{group}\t{row}\t{name or ''}")
        for row, (name, number) in enumerate(zip(names, labels, strict=True))
    ]


def _class_names(file: Any) -> list[str]:
    """Class names by label, where the file keeps them as Hugging Face's datasets do."""
    noted = (file.schema_arrow.metadata or {}).get(b"huggingface")
    features = json.loads(noted).get("info", {}).get("features", {}) if noted else {}
    return list(features.get("label", {}).get("names", ()))
