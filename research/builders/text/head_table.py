"""``namm-mm build head-table``: how much of the cache a policy keeps in each layer and head.

The table is the mean over training prompts of the long-text task. With it as the budget
(``heads:FILE``) any policy has these sizes, and its own order of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.memory import attach
from namm_mm.policies import Policy, create
from namm_mm.policies.head_table import TABLES, HeadTable
from namm_mm.records import Trace
from namm_mm.tasks.long_text.task import LongTextTask
from research.builders.text.smollm2 import NAME as MODEL
from research.builders.text.smollm2 import file_for


@dataclass(frozen=True)
class BuildHeadTable(Builder):
    """Measures what a policy keeps, head by head.

    Attributes
    ----------
    model
        A language model: an asset, a folder or a hub id.
    policy, budget
        The policy, and its budget; None is its own.
    out
        The ``.json`` file; None replaces the bundled one, that of SmolLM2.
    prompts, words, interval
        Training prompts, their length, and tokens between two evictions; None is the policy's own.
    """

    model: str = MODEL
    policy: str = "namm"
    budget: str | None = None
    out: Path | None = None
    prompts: int = 20
    words: int = 300
    interval: int | None = None

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the file of the table."""
        file = file_for(self.model, self.out, TABLES)
        options = {} if self.budget is None else {"budget": self.budget}
        policy = create(self.policy, **options)
        adapter = TextAdapter(model=self.model)
        adapter.load()
        samples = LongTextTask(words=self.words).samples("train", self.prompts, seed=0)
        prompts = [dict(adapter.prepare(sample).tensors) for sample in samples]
        parts = head_parts(adapter.backbone, prompts, policy, self.interval)
        flat = [part for layer in parts for part in layer]
        say(f"{len(flat)} heads keep {min(flat):.2f} to {max(flat):.2f} of the tokens")
        card = {
            "model": adapter.model_name,
            "policy": policy.name,
            "budget": policy.selection.describe(),
            "prompts": len(prompts),
            "words": self.words,
            "mean": round(sum(flat) / len(flat), 4),
            "made_by": "namm-mm build head-table",
            "licence": "Apache-2.0",
        }
        return HeadTable(parts, card).save(file)


def head_parts(
    model: Any,
    prompts: Sequence[dict[str, Any]],
    policy: Policy,
    interval: int | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Return the part of the tokens seen that each head keeps at the last update, mean of prompts.

    Raises
    ------
    UsageError
        A prompt is shorter than an interval: nothing was evicted.
    """
    found = []
    for prompt in prompts:
        with (
            torch.no_grad(),
            attach(model, policy, interval=interval, storage="per_head") as memory,
        ):
            model(**prompt, use_cache=True, logits_to_keep=1)
        found.append(_parts(memory.trace(), memory.interval))
    mean = torch.stack(found).mean(0)
    return tuple(tuple(round(part, 4) for part in layer) for layer in mean.tolist())


def _parts(trace: Trace, interval: int) -> torch.Tensor:
    """(layer, kv_head) float64."""
    if not trace.sizes:
        raise UsageError(
            message(
                "nothing was evicted from a training prompt",
                given=f"an interval of {interval}",
                expected="one below the length of the prompts",
                then="Take interval=32, or longer prompts: words=600.",
            )
        )
    return torch.tensor(trace.sizes[-1], dtype=torch.float64) / (interval * len(trace.sizes))
