"""Everything that rbft raises on purpose.

    RbftError                 exit 1   failed while running
    ├── TrainingError         exit 1   a loss that is not finite, a method that broke its contract
    ├── LeakError             exit 1   a method opened data that it must not see while it fits
    ├── UsageError            exit 2   a wrong option, value or file
    │   └── UnknownName       exit 2   a name that nothing answers to
    ├── DataError             exit 3   data short, truncated or mislabelled
    │   └── MissingData       exit 3   data that is not there at all
    ├── ProtocolError         exit 4   numbers of two protocols were about to meet
    ├── PartialError          exit 5   a partial evaluation where a full one is needed
    └── CheckError            exit 6   a check failed (a stale page, a count that differs from its pack)

Each carries the message (what was given, what was expected) and a hint (the next command).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SHOWN = 30  # known names that an error lists in full


class RbftError(Exception):
    """Base of all errors that a user can act on."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """With the hint, so that an error keeps it on its way from a worker process."""
        return _again, (type(self), str(self), self.hint)


def _again(kind: type[RbftError], message: str, hint: str) -> RbftError:
    error = kind.__new__(kind)
    RbftError.__init__(error, message, hint=hint)
    return error


class TrainingError(RbftError):
    """Training stopped: the loss or the logits are not finite, or a method broke its contract."""


class LeakError(RbftError):
    """A method opened test or OOD data, or a cache of it, while it was fitting."""


class UsageError(RbftError):
    """A wrong option, value or file."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that nothing answers to; the message lists what is known and the nearest match."""

    def __init__(self, what: str, given: str, known: Iterable[str], *, hint: str = "") -> None:
        known = sorted(known)
        plain = {name.lower(): name for name in known}
        near = [plain[name] for name in difflib.get_close_matches(given.lower(), plain, n=6, cutoff=0.5)]
        guess = f" Did you mean {near[0]}?" if near else ""
        shown = known if len(known) <= SHOWN else [*near, f"{len(known) - len(near)} more"]
        super().__init__(f"unknown {what} {given!r}.{guess} Known: {', '.join(shown) or 'none'}.", hint=hint)


class DataError(RbftError):
    """Data that is short, truncated or mislabelled."""

    exit_code = 3


class MissingData(DataError):
    """Data that is not there at all: a shift that is missing makes a run partial, anything else ends it."""


class ProtocolError(RbftError):
    """Numbers under two protocols were about to be compared or combined."""

    exit_code = 4


class PartialError(RbftError):
    """Something needs a full evaluation and was given a partial one."""

    exit_code = 5


class CheckError(RbftError):
    """A check failed: a stale page, or a stored number that differs from the recomputed one."""

    exit_code = 6


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, a GPU or torch's allocator on the CPU had no memory left."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in told for words in ("out of memory", "not enough memory", "allocate memory")
    )


@contextmanager
def in_batches(what: str, size: int, hint: str) -> Iterator[None]:
    """Running out of memory inside becomes one error that names ``size`` and, in place of ``{}`` in ``hint``, half of it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or ["no memory left"])[0]
        raise RbftError(f"out of memory: {what} in batches of {size} ({first})", hint=hint.format(max(1, size // 2))) from error
