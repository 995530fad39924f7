"""The fenced blocks of the documents, and what the comment before a block says of running it.

A block is run as it stands unless a comment on the line before it says otherwise:

``<!-- run with: WORDS -->``         WORDS are added to each of its commands
``<!-- run slowly -->``              in the test marked ``slow``; ``with: WORDS`` too
``<!-- run by: FILE ... -->``        by that file
``<!-- not run: REASON -->``         not at all
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
)
RUNNABLE = ("python", "bash")
DATA = ("text", "yaml", "toml", "json")

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'^ title="(.*)"$')
_MARK = re.compile(
    r"<!-- (?:(run slowly)|(run)|run by: (?P<by>\S.*?)|not run: (?P<reason>.*?))"
    r"(?: with: (?P<words>.*?))? -->\n$"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    slow: bool = False
    words: str = ""
    by: str = ""
    reason: str = ""

    @property
    def runs(self) -> bool:
        """Whether a test of this repository's documents runs it."""
        return self.language in RUNNABLE and not (self.by or self.reason or self.title)

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a ``bash`` block, with the added ones."""
        lines = self.text.replace("\\\n", " ").splitlines()
        found = [shlex.split(line.removesuffix("&"), comments=True) for line in lines]
        return [[*words, *shlex.split(self.words)] for words in found if words]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page; raise ValueError for a comment that cannot be read."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        comment = before.splitlines(keepends=True)[-1] if before else ""
        mark = _MARK.match(comment)
        line = before.count("\n") + 1
        if comment.startswith("<!--") and mark is None:
            raise ValueError(f"{page}:{line}: unknown comment {comment.strip()}")
        facts = {} if mark is None else mark.groupdict(default="")
        slow = mark is not None and mark[1] is not None
        language, title, body = match[1], _TITLE.sub(r"\1", match[2]), match[3]
        found.append(Block(page, line, language, title, body, slow=slow, **facts))
    return found
