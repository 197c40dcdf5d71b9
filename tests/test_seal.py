from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from robustbench_ft import seal
from robustbench_ft.datasets import open_set
from robustbench_ft.errors import LeakError
from robustbench_ft.mini import world
from robustbench_ft.store import Store
from robustbench_ft.suites import Suite


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that is closed under the seal, with one file in it."""
    folder = tmp_path / "closed"
    folder.mkdir()
    np.save(folder / "held.npy", np.zeros(3))
    seal.close_folder(folder)
    return folder


def test_train_and_val_open_under_the_seal_and_nothing_else(tiny: Suite, tmp_path: Path) -> None:
    with seal.sealed():
        for spec in tiny.tests:
            with pytest.raises(LeakError, match=spec.name):
                open_set(tiny, spec, None, tmp_path)
        for spec in (tiny.train, tiny.val):
            assert len(open_set(tiny, spec, None, tmp_path)) == spec.n
    assert len(open_set(tiny, tiny.test, None, tmp_path)) == tiny.test.n


@pytest.mark.parametrize("split", sorted(set(world.SPLITS) - seal.TRAINING_SPLITS))
def test_the_renderer_makes_no_test_data_under_the_seal(split: str) -> None:
    with seal.sealed(), pytest.raises(LeakError, match=split):
        world.render(900, split, [0])
    assert len(world.render(900, split, [0]).labels) == 1


def test_a_closed_folder_cannot_be_read_by_any_way_that_python_sees(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = closed / "held.npy"
    monkeypatch.chdir(closed.parent)
    (closed.parent / "link").symlink_to(closed)
    ways: dict[str, Callable[[], object]] = {
        "open": partial(open, file),
        "relative": partial(open, "closed/held.npy"),
        "dotted": partial(open, "closed/../closed/held.npy"),
        "link": partial(open, "link/held.npy"),
        "bytes": partial(open, os.fsencode(file), "rb"),
        "os.open": lambda: os.open(file, os.O_RDONLY),
        "pathlib": lambda: file.read_bytes(),
        "numpy": lambda: np.load(file),
        "memmap": lambda: np.load(file, mmap_mode="r"),
        "writing": partial(open, closed / "new", "w"),
        "listdir": lambda: os.listdir(closed),
        "iterdir": lambda: list(closed.iterdir()),
        "glob": lambda: list(closed.parent.glob("closed/*")),
    }
    for name, way in ways.items():
        with seal.sealed(), pytest.raises(LeakError, match="closed"):
            way()
            pytest.fail(f"{name} went through")
    assert np.load(file).tolist() == [0, 0, 0] and len(list(closed.iterdir())) == 1


def test_neighbours_of_a_closed_folder_stay_open(closed: Path) -> None:
    beside = closed.with_name("closed-not")
    beside.write_text("free")
    with seal.sealed():
        assert beside.read_text() == "free"


def test_the_seal_can_be_lifted_inside_and_holds_again_after(closed: Path) -> None:
    with seal.sealed():
        with seal.sealed(False):
            assert not seal.is_sealed()
            (closed / "held.npy").read_bytes()
        with pytest.raises(LeakError):
            (closed / "held.npy").read_bytes()
    assert not seal.is_sealed()


def test_the_seal_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), seal.sealed():
        raise ZeroDivisionError
    assert not seal.is_sealed()


def test_a_store_closes_its_pixels_and_predictions_and_leaves_its_fits_open(tmp_path: Path) -> None:
    Store(tmp_path)
    for name in ("pixels", "predictions", "fits"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    with seal.sealed():
        assert (tmp_path / "fits" / "file").read_text() == "x"
        for name in ("pixels", "predictions"):
            with pytest.raises(LeakError):
                (tmp_path / name / "file").read_text()


def test_worker_processes_are_sealed_too(tiny: Suite, tmp_path: Path) -> None:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Peeking(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.tensor(len(open_set(tiny, tiny.test, None, tmp_path)))

    with seal.sealed(), pytest.raises(LeakError):
        list(DataLoader(Peeking(), num_workers=1))
    assert [int(n) for n in DataLoader(Peeking(), num_workers=1)] == [tiny.test.n]
