from __future__ import annotations

import io
import sys

import pytest

from robustbench_ft.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_inside_of_another_is_not_shown_and_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("outer", 3) as outer:
        with progress("inner", 2) as inner:
            inner.advance()
        assert outer._view is not None and inner._view is None
    with progress("next", 1) as after:
        assert after._view is not None
