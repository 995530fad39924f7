"""Download one file by HTTP, going on where an earlier attempt stopped, checked by its SHA-256.

What has arrived is kept in ``NAME.part`` beside the file; the file appears under its name only when
it is whole and hashes to what was promised. A host that knows no ranges sends all of it again.
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
    """Fetch `url` into `path`.

    Parameters
    ----------
    sha256
        What the whole file must hash to.
    attempts
        How often a connection may break before the call gives up; what arrived stays on disk.
    timeout
        Seconds without an answer after which a connection counts as broken.
    on_block
        Told the bytes so far and in all (0 if unknown).

    Raises
    ------
    RunError
        The host does not answer, the folder cannot be written, or what came is another file.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, attempts, timeout, on_block)
    except OSError as error:
        held = part.stat().st_size if part.is_file() else 0
        kept = f" {held:,} bytes are kept in {part} and gone on with." if held else ""
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
        part.unlink()  # nothing in it can be trusted
        raise
    part.replace(path)
    return path


def _complete(
    url: str, part: Path, attempts: int, timeout: float, on_block: OnBlock | None
) -> None:
    """Ask for what is missing until the file is whole, `attempts` times at most."""
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
    """Ask for what is missing, append it, and say whether the file is whole."""
    held = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url)
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        answer: Any = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies behind what is held: it is whole, or not this file
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
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, sha256: str) -> None:
    """Raise `RunError` unless `path` hashes to `sha256`."""
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
