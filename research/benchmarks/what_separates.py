"""What separates the tokens that a question will need from the others, before it is asked.

    python research/benchmarks/what_separates.py --output research/results/what_separates.md

On text, and on both bundled video models, nothing is evicted, and each policy scores the cache at
every update. The measure is the area under the ROC curve at the last update before the question, in
every head: how often a needed token scores higher than another one; .5 is chance. Needed tokens are
the words of the answer, or the frames that show it. A small cache needs more than .5, most of all
in the retrieval heads; all heads have the same weight here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from namm_mm import attach, policy
from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.evolution.prompts import Prompts, Tokenized
from namm_mm.policies.base import THRESHOLD, AnyBudget, LayerView, Observation, Policy
from namm_mm.records import Inputs
from namm_mm.results import words
from namm_mm.results.statistics import mean_interval
from namm_mm.tasks.long_text import LongTextTask
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.generated import slots_of_frames
from research.benchmarks.common import NAMM, markdown, options, parse, write
from research.gradients.answer_tokens import containing_answer

POLICIES = (NAMM, "h2o_16", "l2_all", "recency")
FAMILIES = ("shown", "last", "start", "order", "needle")


@dataclass(frozen=True)
class Scored(Policy):
    """Keeps everything, and records how a policy would have ranked it, update by update."""

    name: ClassVar[str] = "scored"
    policy: Policy
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    scores: dict[int, list[Tensor]] = field(default_factory=dict)

    @property
    def needs(self) -> Observation | None:
        """The observation of the policy."""
        return self.policy.needs

    def score(self, view: LayerView) -> Tensor:
        """Record (kv_head, slot) of the only row, and keep everything."""
        found = self.policy.protected_scores(view)
        self.scores.setdefault(view.seen, []).append(found[0].float())
        return torch.ones_like(found, dtype=torch.float32)


def main() -> None:
    """Measure, print, write."""
    args = parse(options(__doc__, checkpoint="evolved", samples=8, split="test", output=None))
    rows = []
    for name, needed, cases in (
        ("text, SmolLM2", "words of the answer", text(args)),
        ("`smollm2_video`", "frames that show it", video(args, "smollm2_video", 128)),
        ("`pocket_video`", "frames that show it", video(args, "pocket_video", 64)),
    ):
        found = list(cases)
        cells = []
        for chosen in POLICIES:
            mean = mean_interval([case[chosen] for case in found])
            cells.append(words.with_ends(mean, 2) if mean else "-")
        rows.append([name, needed, str(len(found)), *cells])
        print(rows[-1], flush=True)
    about = (
        f"`python research/benchmarks/what_separates.py --samples {args.samples}`, NAMM "
        f"`{args.checkpoint}`, {args.split} samples: area under the ROC curve, mean over heads, "
        "with 95 % intervals over samples; .5 is chance."
    )
    table = markdown(["", "needed", "n", *POLICIES], rows)
    title = "# What separates the tokens that a question will need from the others"
    write("\n".join([title, "", about, "", table, ""]), args.output)


def text(args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Yield the areas of each question about a long text."""
    adapter = TextAdapter(model="smollm2-135m-instruct", device="cpu")
    adapter.load()
    task = LongTextTask(words=300)
    samples = task.samples(args.split, args.samples * len(task.families), 0)
    for prompt in Prompts(Tokenized(adapter), samples).all():
        needed = containing_answer(adapter.tokenizer, prompt).numpy()
        case = Case(adapter, prompt.inputs, 128, needed, np.ones_like(needed))
        yield from case.areas(args.checkpoint)


def video(args: argparse.Namespace, model: str, interval: int) -> Iterator[dict[str, float]]:
    """Yield the areas of each question about a video; only tokens of frames are compared."""
    adapter = LlavaVideoAdapter(model=model, device="cpu")
    adapter.load()
    samples = VideoQaTask(families=FAMILIES).samples(args.split, args.samples * len(FAMILIES), 0)
    for sample in samples:
        inputs = adapter.prepare(sample)
        frames = [one.index if one.kind == "frame" else None for one in inputs.token_types]
        slots = slots_of_frames(sample.metadata, 1 + max(at for at in frames if at is not None))
        shows = np.isin(slots, sample.metadata["evidence"])
        needed = np.array([at is not None and bool(shows[at]) for at in frames])
        compared = np.array([at is not None for at in frames])
        yield from Case(adapter, inputs, interval, needed, compared).areas(args.checkpoint)


@dataclass(frozen=True)
class Case:
    """One prompt: which of its tokens are `needed`, and which are compared."""

    adapter: AnsweringAdapter
    inputs: Inputs
    interval: int
    needed: Any  # (token,) bool
    compared: Any  # (token,) bool

    def areas(self, checkpoint: str) -> Iterator[dict[str, float]]:
        """Yield the mean over heads by policy; nothing where all or none are needed."""
        last = len(self.needed) // self.interval * self.interval
        compared = self.compared[:last]
        needed = self.needed[:last][compared]
        if not needed.any() or needed.all():
            return
        found = {}
        for name in POLICIES:
            scored = Scored(policy(name, checkpoint=checkpoint) if name == NAMM else policy(name))
            with attach(self.adapter.backbone, scored, interval=self.interval) as memory:
                self.adapter.answer(self.inputs, memory)
            heads = torch.cat(scored.scores[last]).numpy()[:, compared]
            found[name] = float(np.mean([area(head[needed], head[~needed]) for head in heads]))
        yield found


def area(needed: Any, others: Any) -> float:
    """Return how often a `needed` score is higher than one of `others`; a tie counts half."""
    differences = needed[:, None] - others[None]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


if __name__ == "__main__":
    main()
