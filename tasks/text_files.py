"""Text of files: UTF-8 with or without a byte order mark; other encodings are refused by name.

Lines end at line feeds alone. ``str.splitlines`` also ends them at U+2028, U+2029 and U+0085, which
may stand inside a JSON string.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_KANA = "".join(map(chr, range(0x3041, 0x30FB)))
_COMMON = (
    (
        "gb18030",
        "GBK",
        "的一是不了在人有我他这中大来上国和地到以说时要就出会可也你对生能而子那得于着下自之年",
    ),
    (
        "big5",
        "Big5",
        "的一是不了在人有我他這中大來上國和地到以說時要就出會可也你對生能而子那得於著下自之年",
    ),
    ("euc_kr", "EUC-KR", "이다의은는을를가에서고하로기지도사한그대어인스자수아나있리해들라일"),
    ("shift_jis", "Shift JIS", _KANA),
    ("euc_jp", "EUC-JP", _KANA),
)
"""Codec, its name, and characters that are frequent in texts in it."""


def read_text(path: Path) -> str:
    r"""Return the text of a file, its lines ended by ``\n``.

    Raises
    ------
    UsageError
        It cannot be opened, or is not UTF-8; the message names the file, the byte, its line and the
        encoding that it looks like.
    """
    return decode(read_bytes(path), str(path)).replace("\r\n", "\n")


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raise `UsageError` if it cannot be opened."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(
            message(
                f"cannot open {path.name} ({error})", given=str(path), expected="a readable file"
            )
        ) from error


def decode(data: bytes, where: str) -> str:
    """Return the text of the bytes of `where`; errors as :func:`read_text`."""
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            raise _encoding(where, f"a byte order mark of {name} at byte 0", name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + (3 if data.startswith(codecs.BOM_UTF8) else 0)
        line = data.count(b"\n", 0, at) + 1
        found = f"byte 0x{data[at]:02x} at {at}, in line {line}"
        raise _encoding(where, found, looks_like(data)) from error


def looks_like(data: bytes) -> str:
    """Return a guess at the encoding of bytes that are not UTF-8."""
    sample = data[: 1 << 16]
    if sample.count(0) > len(sample) // 4:
        return "UTF-16"
    high = [byte > 127 for byte in sample]
    paired = sum(a and b for a, b in pairwise(high))
    if paired <= sum(high) // 3:  # letters with accents stand alone among others
        return "Latin-1 or Windows-1252"
    shares = []
    for codec, name, common in _COMMON:
        text = codecs.getincrementaldecoder(codec)("replace").decode(sample)
        foreign = [c for c in text if c > "\x7f"]
        shares.append((sum(c in common for c in foreign) / max(len(foreign), 1), name))
    return max(shares)[1]


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and text of each line that is not blank."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def json_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield number and object of each line; where it is no JSON object, what is wrong with it."""
    for number, line in lines(text):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"no JSON ({error})"
            continue
        yield number, dict(found) if isinstance(found, Mapping) else "no JSON object"


def is_there(path: Path | None) -> bool:
    """Whether a file is there and may be seen; a name that no file can have is none."""
    try:
        return path is not None and path.is_file()
    except (OSError, ValueError):
        return False


def _encoding(where: str, found: str, looks: str) -> UsageError:
    return UsageError(
        message(
            f"unreadable text in {where}",
            given=found,
            expected="UTF-8, with or without a byte order mark",
            then=f"It looks like {looks}: save it as UTF-8, for instance with `iconv`.",
        )
    )
