"""Python pickles of plain values and uint8 arrays, read without running anything that a pickle names.

Some official data sets come as pickles alone (CIFAR's python batches). A pickle is a program; this reader lets it
build numbers, strings, lists, dicts and one kind of array, the last out of stand-ins, and refuses every other name.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_ft.errors import DataError

MAX_BYTES = 512 * 1024 * 1024


class _Type:
    """Stands in for ``numpy.dtype``; an array's state says what it is."""

    def __init__(self, name: Any = None, *rest: Any) -> None:
        self.name = _text(name)

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment: without meaning for single bytes."""


class _Marker:
    """Stands in for ``numpy.ndarray``, which a pickle names and must not call."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("an array is made by _reconstruct alone")


class _Array:
    """Stands in for ``numpy._core.multiarray._reconstruct``: an empty array that takes its content from its state."""

    def __init__(self, *ignored: Any) -> None:
        self.value = np.zeros(0, dtype=np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Type) or kind.name != "u1":
            raise pickle.UnpicklingError("an array that is not uint8")
        raw = content if isinstance(content, bytes) else content.encode("latin1")
        self.value = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Marker,
    ("numpy", "dtype"): _Type,
}


class _Plain(pickle.Unpickler):
    """An unpickler that knows four names, all of them stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which has no place in a data file")
        return _ADMITTED[module, name]


def load_plain(path: Path) -> dict[str, Any]:
    """The dict that a pickle holds, with text keys and uint8 arrays; DataError when it is or holds anything else."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: {size} bytes; at most {MAX_BYTES} are read")
    try:
        table = _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"{path} is damaged, truncated or not a data file: {error}", hint="unpack the archive again") from error
    if not isinstance(table, dict):
        raise DataError(f"{path} holds a {type(table).__name__}, expected a dict")
    return {_text(key): value.value if isinstance(value, _Array) else value for key, value in table.items()}


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
