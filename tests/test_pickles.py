import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from robustbench_ft.errors import DataError
from robustbench_ft.pickles import load_plain

TABLE = {"labels": [6, 9], "data": np.arange(12, dtype=np.uint8).reshape(2, 6), "batch_label": "testing batch 1 of 1"}


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: protocol 2, every string a byte string, numpy under its old name."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


@pytest.mark.parametrize("content", [python2_pickle(TABLE), pickle.dumps(TABLE, protocol=4)], ids=["python 2", "python 3"])
def test_an_array_and_plain_values_come_back(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_bytes(content)
    table = load_plain(file)
    assert table["labels"] == [6, 9] and table["batch_label"] == "testing batch 1 of 1"
    np.testing.assert_array_equal(table["data"], TABLE["data"])
    assert table["data"].dtype == np.uint8


def test_an_array_in_column_order_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_bytes(python2_pickle({"data": np.asfortranarray(TABLE["data"])}))
    np.testing.assert_array_equal(load_plain(file)["data"], TABLE["data"])


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path: Path) -> None:
    file, trace = tmp_path / "batch", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"data": Hostile(trace)}))
    with pytest.raises(DataError, match=r"builtins\.exec"):
        load_plain(file)
    assert not trace.exists()
    pickle.loads(file.read_bytes())
    assert trace.exists(), "the pickle does its harm where it is let"


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nload\n(S'/dev/null'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\nndarray\n)R.",
        b"c__builtin__\neval\n.",
        pickle.dumps({"data": np.array([1.5])}, protocol=2),
        pickle.dumps({"data": np.array([[1], 2], dtype=object)}, protocol=2),
        python2_pickle(TABLE)[:-20],
        b"\x89PNG",
        b"",
        pickle.dumps([1, 2]),
    ],
)
def test_everything_else_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_bytes(content)
    with pytest.raises(DataError, match="batch"):
        load_plain(file)
