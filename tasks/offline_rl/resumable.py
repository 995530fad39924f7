"""Download one file by HTTP; an interrupted download is resumed, and the SHA-256 is checked.

Received bytes are kept in ``NAME.part`` beside the file. The file gets its name when it is whole
and has the expected hash. A host without support for ranges sends all of it again.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, message

_BLOCK = 1 << 20
OnBlock = Callable[[int, int], None]


def download(
    url: str,
    path: Path,
    sha256: str,
    *,
    attempts: int = 5,
    timeout: float = 60.0,
    on_block: OnBlock | None = None,
) -> Path:
    """Fetch `url` into `path` and return `path`.

    Parameters
    ----------
    sha256
        Expected hash of the whole file.
    attempts
        How many connections are tried; received bytes stay on disk.
    timeout
        Seconds without an answer after which a connection counts as broken.
    on_block
        Called with the bytes so far and in all (0 if unknown).

    Raises
    ------
    RunError
        The host does not answer, the folder cannot be written, or the hash is another one.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, attempts, timeout, on_block)
    except OSError as error:
        held = part.stat().st_size if part.is_file() else 0
        kept = f" {held:,} bytes are kept in {part} and will be resumed." if held else ""
        raise RunError(
            message(
                f"cannot download {path.name} ({error})",
                given=url,
                expected="an answer from the host and a writable folder",
                then=f"Run it again.{kept} Or on another machine: `curl -LO {url}`, then put it "
                f"into {path.parent}.",
            )
        ) from error
    try:
        check(part, sha256)
    except RunError:
        part.unlink()  # a resumed download would have the wrong hash again
        raise
    part.replace(path)
    return path


def _complete(
    url: str, part: Path, attempts: int, timeout: float, on_block: OnBlock | None
) -> None:
    """Request missing bytes until the file is whole, `attempts` times at most."""
    reason: Exception | None = None
    for _ in range(attempts):
        try:
            if _continue(url, part, timeout, on_block):
                return
            reason = ConnectionError("the connection ended before the file did")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise
            reason = error
    raise ConnectionError(str(reason)) from reason


def _continue(url: str, part: Path, timeout: float, on_block: OnBlock | None) -> bool:
    """Request missing bytes and append them; return whether the file is whole."""
    held = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url)
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        answer: Any = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # no byte follows those on disk: the file is whole, or another one
            raise
        error.close()
        return True
    with answer:
        resumed = answer.status == 206
        length = int(answer.headers.get("Content-Length") or 0)
        total = length + (held if resumed else 0) if length else 0
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                if on_block:
                    on_block(file.tell(), total)
            return not total or file.tell() >= total


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, sha256: str) -> None:
    """Raise `RunError` unless `path` has the hash `sha256`."""
    found = file_sha256(path)
    if found != sha256:
        raise RunError(
            message(
                f"{path} is damaged or another file",
                given=found,
                expected=f"SHA-256 {sha256}",
                then="Delete it and run the command again.",
            )
        )
