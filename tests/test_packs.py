import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as read_safetensors

from robustbench_ft import packs
from robustbench_ft.errors import DataError
from robustbench_ft.packs import Pack

PACK = Pack(
    "p" * 64,
    {"b": "digest b", "a": "digest a"},
    {"b/own": np.arange(5, dtype=np.uint16), "a/own": np.array([7], np.uint16)},
)


def rebuilt(change: object, body: bytes | None = None) -> bytes:
    """The pack's file with its header changed by ``change(header)`` and, perhaps, another body."""
    data = packs.to_bytes(PACK)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    change(header)  # type: ignore[operator]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (data[8 + length :] if body is None else body)


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    packs.save(PACK, tmp_path / "one")
    back = packs.load(tmp_path / "one")
    assert (back.protocol, back.digests) == (PACK.protocol, PACK.digests)
    assert all(np.array_equal(back.answers[name], PACK.answers[name]) for name in PACK.answers)
    assert all(answers.dtype == np.uint16 for answers in back.answers.values())
    turned = PACK._replace(answers=dict(reversed(PACK.answers.items())), digests=dict(reversed(PACK.digests.items())))
    assert packs.to_bytes(turned) == packs.to_bytes(PACK) == (tmp_path / "one").read_bytes()


def test_the_safetensors_library_reads_it() -> None:
    theirs = read_safetensors(packs.to_bytes(PACK))
    assert theirs.keys() == PACK.answers.keys()
    assert np.array_equal(theirs["b/own"], PACK.answers["b/own"])


def set_entry(**values: object) -> object:
    return lambda header: header["b/own"].update(values)


HOSTILE = {
    "offsets beyond the file": rebuilt(set_entry(shape=[6], data_offsets=[2, 14])),
    "overlapping": rebuilt(set_entry(data_offsets=[0, 10])),
    "gap": rebuilt(set_entry(shape=[4], data_offsets=[4, 12])),
    "negative shape": rebuilt(set_entry(shape=[-1], data_offsets=[2, 0])),
    "empty array": rebuilt(lambda h: h.update({"c/own": {"dtype": "U16", "shape": [0], "data_offsets": [12, 12]}})),
    "shape of two": rebuilt(set_entry(shape=[5, 1])),
    "shape not a number": rebuilt(set_entry(shape=["5"])),
    "huge shape": rebuilt(set_entry(shape=[2**62], data_offsets=[2, 2 + 2**63])),
    "float offsets": rebuilt(set_entry(data_offsets=[2.0, 12.0])),
    "wrong dtype": rebuilt(set_entry(dtype="F32")),
    "extra field": rebuilt(set_entry(comment="x")),
    "bytes behind": rebuilt(lambda header: None, packs.to_bytes(PACK)[-12:] + b"xx"),
    "truncated body": packs.to_bytes(PACK)[:-1],
    "later schema": rebuilt(lambda h: h["__metadata__"].update(rbft='{"schema": 2, "protocol": "", "digests": {}}')),
    "no metadata": rebuilt(lambda header: header.pop("__metadata__")),
    "metadata a list": rebuilt(lambda header: header.update(__metadata__=[])),
    "digests a list": rebuilt(lambda h: h["__metadata__"].update(rbft='{"schema": 1, "protocol": "", "digests": []}')),
    "header not json": struct.pack("<Q", 4) + b"{{{{",
    "header a list": struct.pack("<Q", 2) + b"[]",
    "header not text": struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
    "header longer than the file": struct.pack("<Q", 2**63) + b"{}",
    "huge header": struct.pack("<Q", packs.MAX_HEADER + 1) + b" " * (packs.MAX_HEADER + 1),
    "deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "seven bytes": b"1234567",
    "empty": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_by_name(what: str, tmp_path: Path) -> None:
    path = tmp_path / "pack.safetensors"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(DataError, match=r"pack\.safetensors"):
        packs.load(path)


def test_the_unchanged_file_is_not_refused() -> None:
    """The hostile files fail for what was changed, not for how they were rebuilt."""
    assert packs.parse(rebuilt(lambda header: None)).answers.keys() == PACK.answers.keys()


def test_too_large_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packs.save(PACK, tmp_path / "pack")
    monkeypatch.setattr(packs, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="bytes; a pack has 8 to 100"):
        packs.load(tmp_path / "pack")
    with pytest.raises(DataError, match="no pack at"):
        packs.load(tmp_path / "none")
