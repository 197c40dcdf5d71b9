"""Progress of long steps on stderr: a bar with time left on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """One line of progress; silent where stderr is not a terminal."""

    def __init__(self, view: Progress | None, task: TaskID | None) -> None:
        self._view, self._task = view, task

    def advance(self, note: str = "", *, by: int = 1) -> None:
        """Count ``by`` more steps and show ``note`` at the end of the line."""
        if self._view is not None and self._task is not None:
            self._view.update(self._task, advance=by, note=note)

    def total(self, steps: int) -> None:
        """Say how many steps there are, where that was not known."""
        if self._view is not None and self._task is not None:
            self._view.update(self._task, total=steps)


_shown: ContextVar[bool] = ContextVar("rbft_progress", default=False)


@contextmanager
def progress(label: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """A bar of ``total`` steps, of which ``done`` were done before; none inside of another."""
    if _shown.get() or not sys.stderr.isatty():
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as view:
        token = _shown.set(True)
        try:
            yield Bar(view, view.add_task(label, total=total, completed=done, note=""))
        finally:
            _shown.reset(token)


def say(text: str) -> None:
    """One line of news on stderr."""
    print(text, file=sys.stderr, flush=True)
