"""Fields by dotted names: ``--set base.recipe.lr=1e-4`` in the dump of a method."""

from __future__ import annotations

from typing import Any

from robustbench_ft.errors import UnknownName


def assign(data: dict[str, Any], path: str, given: Any, name: str) -> None:
    """Put ``given`` at ``path`` in ``data``, the fields of the method ``name``; UnknownName where there is no such field.

    Steps are keys of tables, which may hold dots themselves (``recipe.lr_scale.head.weight``), and places in lists.
    """
    at: Any = data
    step, rest = _step(at, path, path, name)
    while rest:
        at = at[step]
        step, rest = _step(at, rest, path, name)
    is_method = isinstance(at[step], dict) and "method" in at[step]
    at[step] = {"method": given} if is_method and isinstance(given, str) else given


def _step(at: Any, rest: str, path: str, name: str) -> tuple[Any, str]:
    """The key or place that ``rest`` begins with, the longest that fits, and what is left of it."""
    keys = {str(place): place for place in range(len(at))} if isinstance(at, list) else {}
    if isinstance(at, dict):
        keys = {key: key for key in at}
    fits = [key for key in keys if rest == key or rest.startswith(f"{key}.")]
    if not fits:
        part = rest.partition(".")[0]
        of = path.removesuffix(rest).rstrip(".")
        known = [key for key in keys if key != "method"]
        raise UnknownName(f"field of {f'{name}, {of}' if of else name}:", part, known, hint=f"rbft show {name}")
    longest = max(fits, key=len)
    return keys[longest], rest[len(longest) + 1 :]
