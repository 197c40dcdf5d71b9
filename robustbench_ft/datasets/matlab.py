"""MATLAB files (version 5), as SVHN, Flowers-102 and Stanford Cars keep labels in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_ft.errors import DataError


def variable(path: Path, name: str, hint: str) -> npt.NDArray[Any]:
    """The variable of that name, dimensions of size 1 taken away; DataError where the file is damaged or has no such."""
    from scipy.io import loadmat  # a second to import

    try:
        table = loadmat(str(path), variable_names=[name], squeeze_me=True)
    except Exception as error:  # a damaged file raises almost anything
        raise DataError(f"{path} is damaged or no MATLAB file: {error}", hint=hint) from error
    if name not in table:
        raise DataError(f"{path} has no variable {name!r}", hint=hint)
    return np.atleast_1d(table[name])
