"""Packs: what a classifier answered, per image, in one small safetensors file.

``uint16 [N]`` per ``<test set>/<grouping>`` and one metadata key ``rbft`` with canonical JSON: schema, protocol hash
and content digest of each set. Same content, same bytes. Right of the cut: no torch.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robustbench_ft.errors import DataError
from robustbench_ft.files import canonical_json, write_atomic

SCHEMA = 1
MAX_BYTES = 64 * 1024 * 1024
MAX_HEADER = 1024 * 1024

Answers = npt.NDArray[np.uint16]


class Pack(NamedTuple):
    """``answers``: uint16 [N] class indices per ``<test set>/<grouping>``; ``digests``: content digest per test set."""

    protocol: str
    digests: dict[str, str]
    answers: dict[str, Answers]


def to_bytes(pack: Pack) -> bytes:
    """The pack's file: 8 bytes of header length, JSON header, arrays in sorted order."""
    head = {"schema": SCHEMA, "protocol": pack.protocol, "digests": pack.digests}
    header: dict[str, Any] = {"__metadata__": {"rbft": canonical_json(head).decode()}}
    body, at = [], 0
    for name in sorted(pack.answers):
        raw = pack.answers[name].astype("<u2").tobytes()
        header[name] = {"dtype": "U16", "shape": [len(pack.answers[name])], "data_offsets": [at, at + len(raw)]}
        body.append(raw)
        at += len(raw)
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(body)


def save(pack: Pack, path: Path) -> None:
    """Write the pack."""
    write_atomic(path, to_bytes(pack))


def load(path: Path) -> Pack:
    """Read a pack, checking header, dtypes, shapes and offsets before any array is made; DataError says what failed."""
    return decode(read(path), path)


def read(path: Path) -> bytes:
    """The bytes of a file that may be a pack; DataError where there is none or its size is no pack's."""
    try:
        size = path.stat().st_size
        if not 8 <= size <= MAX_BYTES:
            raise DataError(f"{path}: {size} bytes; a pack has 8 to {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"no pack at {path}", hint="rbft evaluate writes it beside the record") from error


def decode(data: bytes, path: Path) -> Pack:
    """The pack in a file's bytes; DataError says what failed."""
    try:
        return parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not a pack: {error}") from error


def parse(data: bytes) -> Pack:
    """A pack from 8 bytes or more; ValueError, KeyError, TypeError or AttributeError where they are not one."""
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"header length {length} does not fit")
    header = json.loads(data[8 : 8 + length])
    head = json.loads(header.pop("__metadata__")["rbft"])
    if head["schema"] != SCHEMA:
        raise ValueError(f"schema {head['schema']}, this rbft reads {SCHEMA}")
    body, at, answers = memoryview(data)[8 + length :], 0, {}
    for name, entry in sorted(header.items()):
        (n,), (low, high) = entry["shape"], entry["data_offsets"]
        if set(entry) != {"dtype", "shape", "data_offsets"} or entry["dtype"] != "U16":
            raise ValueError(f"{name}: expected uint16 with a shape and offsets")
        if type(n) is not int or n < 1 or low != at or high != at + 2 * n or high > len(body):
            raise ValueError(f"{name}: shape and offsets do not fit")
        answers[name] = np.frombuffer(body[low:high], "<u2").astype(np.uint16)
        at = high
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes behind the last array")
    return Pack(str(head["protocol"]), {str(k): str(v) for k, v in head["digests"].items()}, answers)
