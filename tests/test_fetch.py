from __future__ import annotations

import errno
import hashlib
import http.server
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from robustbench_ft import fetch as fetching
from robustbench_ft.errors import DataError
from robustbench_ft.fetch import fetch

CONTENT = random.Random(0).randbytes(300_000)


@dataclass
class Source:
    """What the server gives, and how it misbehaves."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    tag: str = '"one"'
    cuts: list[int] = field(default_factory=list)
    """After so many bytes of each answer, in order, the connection is cut."""
    codes: list[int] = field(default_factory=list)
    """Answered, in order, in place of the content."""
    asked: list[dict[str, str]] = field(default_factory=list)
    length: bool = True


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    found = Source()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            found.asked.append(dict(self.headers))
            if found.codes:
                self.send_error(found.codes.pop(0))
                return
            start = 0
            given = self.headers.get("Range", "")
            if given and found.ranges and self.headers.get("If-Range", found.tag) == found.tag:
                start = int(given.removeprefix("bytes=").removesuffix("-"))
                if start >= len(found.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(found.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(found.content) - 1}/{len(found.content)}")
            else:
                self.send_response(200)
            if found.tag:
                self.send_header("ETag", found.tag)
            body = found.content[start:]
            if found.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: found.cuts.pop(0)] if found.cuts else body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/pets.tar"
    monkeypatch.setattr(fetching, "PAUSES", (0, 0, 0, 0))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_comes_whole_and_nothing_else_stays(source: Source, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(source.url, tmp_path / "down" / "pets.tar", seen=lambda there, total: seen.append((there, total)))
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["pets.tar"]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(source.asked) == 1 and "Range" not in source.asked[0]


def test_a_cut_connection_is_continued_where_it_was_cut(source: Source, tmp_path: Path) -> None:
    source.cuts = [100_000, 50_000]
    assert fetch(source.url, tmp_path / "pets.tar").read_bytes() == CONTENT
    assert [one.get("Range") for one in source.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert source.asked[1]["If-Range"] == '"one"'


def test_after_too_many_cuts_the_next_call_continues(source: Source, tmp_path: Path) -> None:
    source.cuts = [100_000] + [0] * fetching.TRIES
    with pytest.raises(DataError, match="100000 bytes came") as caught:
        fetch(source.url, tmp_path / "pets.tar")
    assert "the same command continues" in caught.value.hint and not (tmp_path / "pets.tar").exists()
    source.cuts.clear()
    assert fetch(source.url, tmp_path / "pets.tar").read_bytes() == CONTENT
    assert source.asked[-1]["Range"] == "bytes=100000-"


def test_a_server_without_ranges_begins_anew(source: Source, tmp_path: Path) -> None:
    source.ranges, source.cuts = False, [100_000, 200_000]
    assert fetch(source.url, tmp_path / "pets.tar").read_bytes() == CONTENT
    assert len(source.asked) == 3


def test_two_versions_are_never_joined(source: Source, tmp_path: Path) -> None:
    source.cuts = [100_000] + [0] * fetching.TRIES
    with pytest.raises(DataError):
        fetch(source.url, tmp_path / "pets.tar")
    source.cuts.clear()
    source.content, source.tag = CONTENT[::-1], '"two"'
    assert fetch(source.url, tmp_path / "pets.tar").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("verified", [True, False])
def test_without_a_version_only_what_is_verified_later_is_continued(verified: bool, source: Source, tmp_path: Path) -> None:
    source.tag, source.cuts = "", [100_000]
    assert fetch(source.url, tmp_path / "pets.tar", verified=verified).read_bytes() == CONTENT
    assert source.asked[1].get("Range") == ("bytes=100000-" if verified else None)


def test_a_part_that_was_whole_is_taken_and_one_that_is_too_long_thrown_away(source: Source, tmp_path: Path) -> None:
    for part in (CONTENT, CONTENT + b"more"):
        (tmp_path / "pets.tar.part").write_bytes(part)
        (tmp_path / "pets.tar.part.tag").write_text('"one"')
        assert fetch(source.url, tmp_path / "pets.tar").read_bytes() == CONTENT
        assert [path.name for path in tmp_path.iterdir()] == ["pets.tar"]


def test_without_a_length_the_end_is_the_end(source: Source, tmp_path: Path) -> None:
    source.length = False
    assert hashlib.sha256(fetch(source.url, tmp_path / "a").read_bytes()).digest() == hashlib.sha256(CONTENT).digest()


def test_a_refusal_is_said_at_once_and_a_busy_server_asked_again(source: Source, tmp_path: Path) -> None:
    source.codes = [404]
    with pytest.raises(DataError, match="the server says 404 Not Found") as caught:
        fetch(source.url, tmp_path / "pets.tar")
    assert "with a browser" in caught.value.hint and len(source.asked) == 1
    source.codes = [503, 429]
    assert fetch(source.url, tmp_path / "pets.tar").read_bytes() == CONTENT


def test_nobody_at_that_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSES", (0, 0, 0, 0))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match="127.0.0.1:9/pets.tar"):
        fetch("http://127.0.0.1:9/pets.tar", tmp_path / "pets.tar")
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/a", "pets.tar"):
        with pytest.raises(DataError, match="http:// or https://"):
            fetch(url, tmp_path / "pets.tar")


def test_a_full_disk_is_no_reason_to_try_again(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "_tag", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(source.url, tmp_path / "pets.tar")
