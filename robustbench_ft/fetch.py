"""Fetch a file by HTTP(S): continued where it was cut, renamed into place only when it is whole and the right one.

<file>.part       what has come so far
<file>.part.tag   what the server calls this version of it (ETag or date), so that two versions are never joined
"""

from __future__ import annotations

import errno
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustbench_ft.errors import DataError

TIMEOUT = 60  # seconds without a byte
TRIES = 5  # in a row that bring nothing new
PAUSES = (1, 5, 15, 30)  # seconds before the second try and so on
CHUNK = 1 << 18
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
"""Errors that no other try mends."""
Seen = Callable[[int, int], None]
"""Told of each piece: bytes that are there, and bytes that there will be (0: the server does not say)."""


def fetch(url: str, path: Path, *, seen: Seen = lambda there, total: None, verified: bool = False) -> Path:
    """The file of that address at ``path``; DataError when it cannot be had, and then what came is kept.

    ``verified``: the caller checks the content, so that a file may be continued whose version the server does not tell.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url} is no address that rbft fetches from; expected http:// or https://")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    last: Exception | None = None
    failed, most = 0, _size(part)
    while failed < TRIES:
        try:
            if _piece(url, part, seen, verified):
                os.replace(part, path)
                _tag(part).unlink(missing_ok=True)
                return path
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{url}: the server says {error.code} {error.reason}", hint=_hint(path)) from error
            last = error
        except (OSError, http.client.HTTPException) as error:  # a timeout, a connection that was cut or refused
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            last = error
        failed = 0 if _size(part) > most else failed + 1
        most = max(most, _size(part))
        if 0 < failed < TRIES:
            time.sleep(PAUSES[failed - 1])
    told = f"{url}: {last or 'the connection was cut'}; {_size(part)} bytes came"
    raise DataError(told, hint=f"the same command continues; or {_hint(path)}")


def _hint(path: Path) -> str:
    return f"get {path.name} with a browser into {path.parent}"


def _piece(url: str, part: Path, seen: Seen, verified: bool) -> bool:
    """Append what the server gives; whether the file is whole now."""
    request = urllib.request.Request(url, headers={"User-Agent": "rbft", "Accept-Encoding": "identity"})
    tag, there = _read(_tag(part)), _size(part)
    if there and (tag or verified):
        request.add_header("Range", f"bytes={there}-")
        if tag:
            request.add_header("If-Range", tag)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{there}":
            return True
        part.unlink(missing_ok=True)  # more than the server has: of another version
        return False
    with answer:
        start = there if answer.status == 206 and _starts_at(answer, there) else 0
        length = int(answer.headers.get("Content-Length") or 0)
        total = start + length if length else 0
        _tag(part).write_text(_version(answer))
        with open(part, "r+b" if start else "wb") as out:
            out.seek(start)
            out.truncate()
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                start += len(chunk)
                seen(start, total)
    return not total or start == total


def _starts_at(answer: Any, place: int) -> bool:
    """Whether a partial answer begins where it was asked to."""
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {place}-")


def _version(answer: Any) -> str:
    """What the server calls this version; a weak tag does not promise the same bytes."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
