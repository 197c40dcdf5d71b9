"""Small helpers for files and hashes: written whole or not at all, and hashed by content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
"""What the package ships."""


def default_folder() -> Path:
    """Where finished work and summaries are kept: ``$RBFT_STORE``, else ``rbft`` in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("RBFT_STORE") or cache / "rbft")


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def readable_json(value: dict[str, Any], rows: str) -> str:
    """JSON for review: sorted keys, a line per key, and a line per item of the list ``value[rows]``."""
    lines = []
    for key in sorted(value):
        text = json.dumps(value[key], sort_keys=True, ensure_ascii=False, allow_nan=False)
        if key == rows:
            items = (json.dumps(item, sort_keys=True, ensure_ascii=False, allow_nan=False) for item in value[key])
            text = "[\n  " + ",\n  ".join(items) + "\n ]"
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def printed_json(value: Any) -> str:
    """What a verb prints with ``--json``."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` to a temporary name beside ``path`` and rename it: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
