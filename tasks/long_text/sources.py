"""Real text to hide things in, split into train, validation and test parts that never overlap.

Every machine with Python has some, under the PSF licence: the topics of its language reference
(``pydoc_data.topics``) and the docstrings of its standard library are English prose, and the
library itself is code. A folder of ``.txt`` files takes the place of the prose. A whole document (a
topic, a source file with its docstrings, a text file) belongs to one split, by the hash of its
name, and a paragraph that several documents share stays in the first of them only.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.tasks.text_files import read_text

SPLITS = ("train", "validation", "test")
_TRAIN, _VALIDATION = 0.6, 0.2  # of the text; the rest is for testing
_SHARED_LENGTH = 60  # characters; shorter paragraphs ("Notes:") may recur without telling anything
_DOCSTRING = re.compile(r"""^[ \t]*[rR]?(\"{3}|'{3})(.*?)\1""", re.DOTALL | re.MULTILINE)
_NOT_LIBRARY = {
    "__pycache__",
    "dist-packages",
    "encodings",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}


@dataclass(frozen=True)
class Document:
    """One document of a source.

    Attributes
    ----------
    name
        Unique in its source; the split is drawn from it.
    paragraphs
        Its text. Prose: one unwrapped paragraph each. Code: one element, the file as it is.
    """

    name: str
    paragraphs: tuple[str, ...]


def prose(split: str, source: str | None = None) -> tuple[Document, ...]:
    """Return English prose of one split.

    Parameters
    ----------
    split
        ``train``, ``validation`` or ``test``.
    source
        A folder of ``.txt`` files (UTF-8, searched recursively); None stands for Python's language
        reference and the docstrings of its library.

    Raises
    ------
    UsageError
        The folder is missing, empty, unreadable, or has too few documents to fill every split.
    """
    if source is not None:
        return _part(_folder(Path(source).expanduser()), split)
    return tuple(document for document in _python_prose() if document.name in _names(split))


def code(split: str) -> tuple[Document, ...]:
    """Return Python source files of the standard library, without tests, of one split."""
    return _part(_library(), split)


def fingerprint(documents: Iterable[Document]) -> str:
    """Return a hash of documents, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update("\0".join((document.name, *document.paragraphs, "")).encode())
    return digest.hexdigest()[:12]


def _part(documents: Sequence[Document], split: str) -> tuple[Document, ...]:
    """Return the documents of `split`: sorted by the hash of their names, cut by shares of text."""
    ordered = sorted(documents, key=lambda d: hashlib.sha256(d.name.encode()).digest())
    sizes = [sum(map(len, d.paragraphs)) for d in ordered]
    parts, passed = [], 0
    for size in sizes:
        middle = (passed + size / 2) / sum(sizes)
        parts.append(SPLITS[(middle >= _TRAIN) + (middle >= _TRAIN + _VALIDATION)])
        passed += size
    if len(set(parts)) < len(SPLITS) <= len(parts):  # few documents: one each, the rest to train
        parts = [SPLITS[0]] * (len(parts) - 2) + list(SPLITS[1:])
    return tuple(d for d, part in zip(ordered, parts, strict=True) if part == split)


@cache
def _python_prose() -> tuple[Document, ...]:
    docstrings = (
        Document(file.name, tuple(p for d in _docstrings(file) for p in _paragraphs(d)))
        for file in _library()
    )
    return _without_shared((*_reference(), *docstrings))


@cache
def _reference() -> tuple[Document, ...]:
    from pydoc_data.topics import topics

    # Long topics first: `compound` contains all of `for`, `if` and `with`, which then vanish.
    longest_first = sorted(topics.items(), key=lambda item: (-len(item[1]), item[0]))
    return _without_shared(Document(name, _paragraphs(text)) for name, text in longest_first)


def _docstrings(file: Document) -> list[str]:
    return [found[2] for found in _DOCSTRING.finditer(file.paragraphs[0])]


@cache
def _names(split: str) -> frozenset[str]:
    parts = (*_part(_reference(), split), *_part(_library(), split))
    return frozenset(document.name for document in parts)


@cache
def _library() -> tuple[Document, ...]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _NOT_LIBRARY.intersection(relative.parts):
            try:
                found.append(Document(relative.as_posix(), (path.read_text(encoding="utf-8"),)))
            except (OSError, UnicodeDecodeError):
                continue  # a few files declare another encoding
    return tuple(found)


@cache
def _folder(folder: Path) -> tuple[Document, ...]:
    if not folder.is_dir():
        raise UsageError(
            message(
                "no such text source",
                given=str(folder),
                expected="a folder with .txt files, or null for Python's language reference",
            )
        )
    found = []
    for path in sorted(folder.rglob("*.txt")):
        if paragraphs := _paragraphs(read_text(path)):
            found.append(Document(path.relative_to(folder).as_posix(), paragraphs))
    documents = _without_shared(found)
    if len(documents) < len(SPLITS):
        raise UsageError(
            message(
                f"too little text in {folder}",
                given=f"{len(documents)} .txt files with prose",
                expected="three or more: a file is never cut between train, validation and test",
                then="Add .txt files with paragraphs of running text, in UTF-8.",
            )
        )
    return documents


def _paragraphs(text: str) -> tuple[str, ...]:
    """Return the unwrapped paragraphs of running English: at least 16 words, mostly letters."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(block.split())
        letters = sum(c.isalpha() or c == " " for c in paragraph)
        if len(paragraph.split()) >= 16 and letters >= 0.9 * len(paragraph):
            found.append(paragraph)
    return tuple(found)


def _without_shared(documents: Iterable[Document]) -> tuple[Document, ...]:
    """Return the documents, with each long paragraph in the first document that has it only."""
    seen: set[str] = set()
    kept = []
    for document in documents:
        own = tuple(p for p in document.paragraphs if len(p) < _SHARED_LENGTH or p not in seen)
        seen.update(own)
        if own:
            kept.append(Document(document.name, own))
    return tuple(kept)
