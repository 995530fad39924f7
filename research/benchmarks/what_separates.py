"""What tells the tokens that a question will ask for from the others, before it is asked.

    python research/benchmarks/what_separates.py --output research/results/what_separates.md

For text, and for both bundled video models: nothing is evicted, and each policy scores the cache at
every update. At the last one before the question, in every head, how often does a token that will
be asked for score higher than one that will not (the area under the ROC curve; .5 is chance)? Asked
for are the words that say the answer, or the frames that show it. A memory of limited size needs
this above .5, and most of all in the heads that look things up, which this does not weigh.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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
from research.gradients.needed import said

POLICIES = ("namm", "h2o", "l2", "recency")
FAMILIES = ("shown", "last", "start", "order", "needle")


@dataclass(frozen=True)
class Scored(Policy):
    """Keeps everything, and remembers how a policy would have ranked it, update by update."""

    name: ClassVar[str] = "scored"
    policy: Policy
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    scores: dict[int, list[Tensor]] = field(default_factory=dict)

    @property
    def needs(self) -> Observation | None:
        """What the policy needs."""
        return self.policy.needs

    def score(self, view: LayerView) -> Tensor:
        """Remember (kv_head, slot) of the only row; keep all."""
        found = self.policy.protected_scores(view)
        self.scores.setdefault(view.seen, []).append(found[0].float())
        return torch.ones_like(found, dtype=torch.float32)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="evolved", help="the NAMM")
    parser.add_argument("--samples", type=int, default=8, help="of each family")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, help="Markdown; without it, only printed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# What tells the tokens that will be asked for from the others",
        "",
        f"`python research/benchmarks/what_separates.py --samples {args.samples}`, NAMM "
        f"`{args.checkpoint}`, {args.split} samples: area under the ROC curve, mean over heads, "
        "with 95 % bootstrap intervals over samples; .5 is chance.",
        "",
        "| | asked for | n | " + " | ".join(POLICIES) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(POLICIES),
    ]
    for name, asked, cases in (
        ("text, SmolLM2", "words of the answer", text(args)),
        ("`smollm2_video`", "frames that show it", video(args, "smollm2_video", 128)),
        ("`pocket_video`", "frames that show it", video(args, "pocket_video", 64)),
    ):
        found = list(cases)
        cells = []
        for chosen in POLICIES:
            found_here = mean_interval([case[chosen] for case in found])
            cells.append(words.with_ends(found_here, 2) if found_here else "-")
        lines.append(f"| {name} | {asked} | {len(found)} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    whole = "\n".join([*lines, ""])
    print(whole)
    if args.output is not None:
        args.output.write_text(whole, encoding="utf-8")


def text(args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """One case for each question about a long text."""
    adapter = TextAdapter(model="smollm2-135m-instruct", device="cpu")
    adapter.load()
    task = LongTextTask(words=300)
    samples = task.samples(args.split, args.samples * len(task.families), 0)
    for prompt in Prompts(Tokenized(adapter), samples).all():
        asked = said(adapter.tokenizer, prompt).numpy()
        case = Case(adapter, prompt.inputs, 128, asked, np.ones_like(asked))
        yield from case.areas(args.checkpoint)


def video(args: argparse.Namespace, model: str, interval: int) -> Iterator[dict[str, float]]:
    """One case for each question about a video; only tokens of frames are compared."""
    adapter = LlavaVideoAdapter(model=model, device="cpu")
    adapter.load()
    samples = VideoQaTask(families=FAMILIES).samples(args.split, args.samples * len(FAMILIES), 0)
    for sample in samples:
        inputs = adapter.prepare(sample)
        frames = [one.index if one.kind == "frame" else None for one in inputs.token_types]
        slots = slots_of_frames(sample.metadata, 1 + max(at for at in frames if at is not None))
        shows = np.isin(slots, sample.metadata["evidence"])
        asked = np.array([at is not None and bool(shows[at]) for at in frames])
        there = np.array([at is not None for at in frames])
        yield from Case(adapter, inputs, interval, asked, there).areas(args.checkpoint)


@dataclass(frozen=True)
class Case:
    """One prompt: which of its tokens `asked` for, and among which they are to be found."""

    adapter: AnsweringAdapter
    inputs: Inputs
    interval: int
    asked: Any  # (token,) bool
    there: Any  # (token,) bool

    def areas(self, checkpoint: str) -> Iterator[dict[str, float]]:
        """By policy, the mean over heads; nothing where the last update has seen all or none."""
        last = len(self.asked) // self.interval * self.interval
        there = self.there[:last]
        asked = self.asked[:last][there]
        if not asked.any() or asked.all():
            return
        found = {}
        for name in POLICIES:
            scored = Scored(policy(name, **({"checkpoint": checkpoint} if name == "namm" else {})))
            with attach(self.adapter.backbone, scored, interval=self.interval) as memory:
                self.adapter.answer(self.inputs, memory)
            heads = torch.cat(scored.scores[last]).numpy()[:, there]
            found[name] = float(np.mean([area(head[asked], head[~asked]) for head in heads]))
        yield found


def area(asked: Any, others: Any) -> float:
    """How often one of `asked` is higher than one of `others`; a tie counts half."""
    differences = asked[:, None] - others[None]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


if __name__ == "__main__":
    main()
