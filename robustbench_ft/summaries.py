"""What packs gave, kept so that a board of many submissions is made without reading them again.

The folder is the store's (``$RBFT_STORE``, else ``rbft`` in the user's cache):

    summaries/<suite>/<pack's hash>.json    right or wrong, per image; bootstraps and tallies of other metrics;
                                            <suite> hashes protocol and answer key
                      files.json            hashes of pack files, by path, size and times
                      pairs-<start>.npz     image variances of pairs of rows

It only saves time: without it, or with any file of it damaged, the same numbers come out. Each file begins with a line
that holds the SHA-256 of the rest; what does not match is made anew. Counts of right answers are never kept: they are
counted from the images and compared with the record each time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_ft import packs
from robustbench_ft.files import canonical_json, digest, write_atomic
from robustbench_ft.metrics import Hits, Scored, counts_of
from robustbench_ft.statistics import Floats
from robustbench_ft.tallies import Tallies

FORMAT = 2
"""Of the files; another one has a folder of its own."""
FILES = "files.json"
SETTLED = 2e9
"""Nanoseconds after which a file that is written again has another time for certain (as git's index assumes)."""


class PackedHits(Mapping[str, npt.NDArray[Any]]):
    """``metrics.Hits`` in little space: right or wrong eight images a byte, bootstraps as they are."""

    def __init__(self, sizes: dict[str, int], bits: bytes, draws: dict[str, bytes] | None = None) -> None:
        """``sizes``: images per name; ``bits``: each name's, padded to whole bytes; ``draws``: float64, little-endian."""
        self.sizes, self.bits, self.draws = sizes, bits, draws or {}
        self._at, at = {}, 0
        for name, n in sizes.items():
            self._at[name] = at
            at += -(-n // 8)
        if at != len(bits):
            raise ValueError(f"{len(bits)} bytes, expected {at}")

    @classmethod
    def of(cls, hits: Hits) -> PackedHits:
        """The same hits, packed."""
        right = {name: values for name, values in hits.items() if values.dtype == np.bool_}
        draws = {name: values.astype("<f8").tobytes() for name, values in hits.items() if name not in right}
        return cls({n: len(r) for n, r in right.items()}, b"".join(np.packbits(r).tobytes() for r in right.values()), draws)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Bool [N], or float64 [B]."""
        if name in self.draws:
            return np.frombuffer(self.draws[name], "<f8").astype(np.float64)
        n = self.sizes[name]
        packed = np.frombuffer(self.bits, np.uint8, -(-n // 8), self._at[name])
        return np.unpackbits(packed, count=n).view(np.bool_)

    def __iter__(self) -> Iterator[str]:
        yield from self.sizes
        yield from self.draws

    def __len__(self) -> int:
        return len(self.sizes) + len(self.draws)


class Summaries:
    """The summaries of one suite's packs."""

    def __init__(self, root: Path, protocol: str, key: str) -> None:
        """``root``: of the cache; ``protocol`` and ``key``: the suite's hash and that of its answer key's file."""
        self.folder = root / "summaries" / digest([FORMAT, protocol, key])[:16]
        self._files: dict[str, list[Any]] = json.loads(self._read(FILES) or b"{}")
        self._changed = False

    def scored(self, path: Path, score: Callable[[bytes], Scored]) -> tuple[str, Scored]:
        """SHA-256 of the pack file at ``path`` and what it gives; ``score``: from its bytes, where that is not kept."""
        state = _state(path)
        *known, sha = self._files.get(str(path.absolute()), [""])
        kept = self._kept(sha) if known == state else None
        if kept is None:
            data = packs.read(path)
            sha = hashlib.sha256(data).hexdigest()
            kept = self._kept(sha) or self._keep(sha, score(data))
            if time.time_ns() - max(state[1:3]) > SETTLED:
                self._files[str(path.absolute())] = [*state, sha]
                self._changed = True
        return sha, kept

    def pairs(self, start: str) -> tuple[list[str], Floats]:
        """The rows and the matrix that ``keep_pairs`` was given; none where nothing is kept."""
        content = self._read(_pairs(start))
        if content is None:
            return [], np.zeros((0, 0))
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            return kept["rows"].tolist(), kept["matrix"]

    def keep_pairs(self, start: str, rows: Sequence[str], matrix: Floats) -> None:
        """Keep ``matrix`` [R, R] of the board of that start model, whose ``rows`` are named by their packs' hashes."""
        buffer = io.BytesIO()
        np.savez(buffer, rows=np.array(rows), matrix=matrix)
        self._write(_pairs(start), buffer.getvalue())

    def save(self) -> None:
        """Write down which file has which hash."""
        if self._changed:
            self._write(FILES, canonical_json(self._files))
            self._changed = False

    def _kept(self, sha: str) -> Scored | None:
        content = self._read(f"{sha}.json")
        if content is None:
            return None
        value = json.loads(content)
        draws = {name: base64.b64decode(text) for name, text in value["draws"].items()}
        hits = PackedHits(value["sizes"], base64.b64decode(value["bits"]), draws)
        tallies = {name: Tallies.model_validate(one) for name, one in value["tallies"].items()}
        return Scored({**counts_of(hits), **tallies}, hits)

    def _keep(self, sha: str, found: Scored) -> Scored:
        hits = PackedHits.of(found.hits)
        value = {
            "sizes": hits.sizes,
            "bits": base64.b64encode(hits.bits).decode(),
            "draws": {name: base64.b64encode(values).decode() for name, values in hits.draws.items()},
            "tallies": {name: one.model_dump(mode="json") for name, one in found.counts.items() if isinstance(one, Tallies)},
        }
        self._write(f"{sha}.json", json.dumps(value).encode())
        return Scored(found.counts, hits)

    def _read(self, name: str) -> bytes | None:
        """What was kept under that name; None where nothing was, or where it is not what was written."""
        try:
            line, _, content = (self.folder / name).read_bytes().partition(b"\n")
        except OSError:
            return None
        return content if line == _checksum(name, content) else None

    def _write(self, name: str, content: bytes) -> None:
        """Nothing depends on it: without space or permission it is made again next time."""
        with suppress(OSError):
            write_atomic(self.folder / name, _checksum(name, content) + b"\n" + content)


def _checksum(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + content).hexdigest().encode()


def _pairs(start: str) -> str:
    return f"pairs-{start[:16]}.npz"


def _state(path: Path) -> list[int]:
    """What changes when a file is written: size, time of its content, time of its entry, number; zeros without a file."""
    try:
        found = path.stat()
    except OSError:
        return [0, 0, 0, 0]
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
