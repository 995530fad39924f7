"""What the authors of LongBench fix for each of its tasks: prompt, longest answer, metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "published.yaml"


@dataclass(frozen=True)
class Published:
    """One task.

    Attributes
    ----------
    prompt
        With ``{context}`` and ``{input}``.
    metric
        A name in :data:`namm_mm.tasks.longbench.metrics.METRICS`.
    max_new_tokens
        Longest answer.
    full_cache
        Score in % of Llama-3-8B at 32k with its whole cache, as in the code of the NAMM paper.
    first_line
        Only the first line of an answer counts.
    """

    prompt: str
    metric: str
    max_new_tokens: int
    full_cache: float
    first_line: bool = False

    def ask(self, context: str, question: str) -> str:
        """Return the whole prompt; braces in the texts stay as they are."""
        before, _, after = self.prompt.partition("{context}")
        return before + context + after.replace("{input}", question)


@cache
def tasks() -> Mapping[str, Published]:
    """Return all 21 tasks, by the name of their file."""
    import yaml

    found = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: Published(**values) for name, values in found.items()}
