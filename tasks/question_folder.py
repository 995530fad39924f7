"""A user's own questions about media: a folder with a ``questions.jsonl``, one question a line.

Fields of a line: the medium (``video``, ``image``, ``sound``: a path relative to the folder, or
several in a list where a question may have several; ``images`` and ``sounds`` are read, too),
``question``, ``answer``; and optionally ``options`` (a list of texts), ``id`` and ``family``. With
options, the answer is the letter of one (``"B"``), its index from 0, or its text; without, the text
that the model should write.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.records import Sample
from namm_mm.tasks.text_files import is_there, lines, read_bytes, read_text

QUESTIONS = "questions.jsonl"
FIELDS = ("id", "question", "options", "answer", "family", "context")
SECONDS = "seconds"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Medium:
    """What the questions of a folder are about.

    Attributes
    ----------
    name
        Its field in a line, and its word in messages: ``video``, ``image``, ``sound``.
    example
        Name of a file, for messages.
    several
        Whether a question may be about several files.
    timed
        Whether a line says when it is asked: ``seconds`` from the start of the file. They are in
        the metadata of its sample.
    """

    name: str
    example: str
    several: bool = False
    timed: bool = False

    def placed(self, files: tuple[Path, ...]) -> dict[str, Any]:
        """Return the field of a sample that holds `files`."""
        return {f"{self.name}s": files} if self.several else {self.name: files[0]}


VIDEO = Medium("video", "clip.mp4")
FILM = Medium("video", "film.mp4", timed=True)
IMAGE = Medium("image", "page.png", several=True)
SOUND = Medium("sound", "talk.wav", several=True)


def questions_file(folder: Path, medium: Medium) -> Path:
    """Return the questions file in `folder`; raise `UsageError` if there is none."""
    path = folder / QUESTIONS
    if not is_there(path):
        raise UsageError(
            message(
                "no questions to ask",
                given=str(folder),
                expected=f"a folder that holds a {QUESTIONS}",
                then=f'A line of it: {{"{medium.name}": "{medium.example}", "question": "...", '
                '"options": ["...", "..."], "answer": "A"}',
            )
        )
    return path


def read_questions(folder: Path, medium: Medium) -> list[Sample]:
    """Return all questions, in order.

    Raises
    ------
    UsageError
        The file is missing or empty, or a line is malformed; the message names file and line.
    """
    path = questions_file(folder, medium)
    samples: list[Sample] = []
    first_seen: dict[str, int] = {}
    for number, line in lines(read_text(path)):
        sample = _read(line, number, medium, path)
        if sample.id in first_seen:
            raise UsageError(
                message(
                    f"{path}, line {number}: the id is taken by line {first_seen[sample.id]}",
                    given=sample.id,
                    expected="ids that differ",
                )
            )
        first_seen[sample.id] = number
        samples.append(sample)
    if not samples:
        raise UsageError(
            message("no questions to ask", given=str(path), expected="at least one line")
        )
    return samples


def folder_fingerprint(folder: Path, medium: Medium) -> str:
    """Return a short hash of the questions file and of the sizes of the files that it names."""
    hasher = hashlib.sha256(read_bytes(questions_file(folder, medium)))
    for sample in read_questions(folder, medium):
        for file in sample.files:
            hasher.update(str(file.stat().st_size if is_there(file) else -1).encode())
    return hasher.hexdigest()[:12]


def _read(line: str, number: int, medium: Medium, path: Path) -> Sample:
    where = f"{path}, line {number}"
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            message(
                f"{where}: not valid JSON ({error})", given=line[:60], expected="one object a line"
            )
        ) from error
    if not isinstance(fields, dict):
        raise UsageError(message(f"{where}: wrong line", given=fields, expected="a JSON object"))
    if medium.several and f"{medium.name}s" in fields and medium.name not in fields:
        fields[medium.name] = fields.pop(f"{medium.name}s")
    valid = (*FIELDS, medium.name, *([SECONDS] if medium.timed else []))
    for name in fields:
        if name not in valid:
            raise UsageError(
                message(f"{where}: unknown field", given=name, expected="a known one", valid=valid)
            )
    files = tuple(path.parent / name for name in _files(fields, medium, where))
    question = _text(fields, "question", where)
    options = fields.get("options", [])
    if (
        not isinstance(options, list)
        or not all(isinstance(o, str) and o for o in options)
        or len(options) == 1
        or len(set(options)) != len(options)
        or len(options) > len(_LETTERS)
    ):
        raise UsageError(
            message(
                f"{where}: wrong options",
                given=options,
                expected="2 to 26 different texts, or none",
            )
        )
    return Sample(
        id=str(fields.get("id", f"line-{number}")),
        family=str(fields.get("family", medium.name)),
        context=str(fields.get("context", "")),
        question=question,
        options=tuple(options),
        answer=_answer(fields, options, where),
        seed=number,
        metadata={SECONDS: _seconds(fields, where)} if medium.timed else {},
        **medium.placed(files),
    )


def _files(fields: dict[str, Any], medium: Medium, where: str) -> list[str]:
    given = fields.get(medium.name)
    if not medium.several or not isinstance(given, list):
        return [_text(fields, medium.name, where)]
    if not given or not all(isinstance(one, str) and one.strip() for one in given):
        raise UsageError(
            message(
                f"{where}: wrong {medium.name}", given=given, expected="a file, or a list of files"
            )
        )
    return given


def _seconds(fields: dict[str, Any], where: str) -> float:
    _check_given(fields, SECONDS, "the time of the question", where)
    given = fields[SECONDS]
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise UsageError(
            message(f"{where}: wrong {SECONDS}", given=given, expected="a time above 0")
        )
    return float(given)


def _text(fields: dict[str, Any], name: str, where: str) -> str:
    _check_given(fields, name, "a text", where)
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise UsageError(message(f"{where}: wrong {name}", given=value, expected="a text"))
    return value


def _check_given(fields: dict[str, Any], name: str, expected: str, where: str) -> None:
    if name not in fields:
        raise UsageError(
            message(
                f"{where}: no {name}",
                given=f"the fields {', '.join(fields)}" if fields else "an empty object",
                expected=f"the field {name!r} with {expected}",
            )
        )


def _answer(fields: dict[str, Any], options: list[str], where: str) -> str:
    """Return the text of the right option, however the line names it; a text wins over a letter."""
    if not options:
        return _text(fields, "answer", where)
    expected = (
        f"a letter from A to {_LETTERS[len(options) - 1]}, an index from 0 to "
        f"{len(options) - 1}, or the text of an option"
    )
    _check_given(fields, "answer", expected, where)
    given = fields["answer"]
    if isinstance(given, str) and given in options:
        return given
    if isinstance(given, str) and len(given) == 1 and given.upper() in _LETTERS[: len(options)]:
        return options[_LETTERS.index(given.upper())]
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(options):
        return options[given]
    raise UsageError(message(f"{where}: wrong answer", given=given, expected=expected))
