"""Where answers need memory, and where a NAMM spends it, head by head.

    python research/benchmarks/memory_by_head.py --checkpoint evolved --samples 8

On held-out prompts of the long-text task it measures two maps over the heads of SmolLM2. The *need*
of a head is the importance of its tokens near an occurrence of the answer: the gradient of the
answer's log-probability with respect to their gates, with the full cache, after the last update.
The *kept* fraction is that of the NAMM with storage per head. The NAMM is not told which head it
sees: it sees attention.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from namm_mm import attach, policy
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.evolution.prompts import Prompts, Tokenized
from namm_mm.namm import Namm
from namm_mm.tasks.long_text.task import LongTextTask
from research.benchmarks.common import NAMM, RESULTS, Facts, options, parse, report
from research.gradients.answer_tokens import near_answer
from research.gradients.examples import record, restricted

TOP = 20


def main() -> None:
    """Measure, print, and write the numbers and the picture."""
    parser = options(
        __doc__,
        checkpoint="evolved",
        model="smollm2-135m-instruct",
        samples=8,
        words=300,
        split="test",
        out=RESULTS / "memory_by_head",
    )
    args = parse(parser)
    report(measure(args), args.out, in_words, draw)


def measure(args: argparse.Namespace) -> Facts:
    """Return shares of the need, and kept fractions, (layer, head) each: means over prompts."""
    adapter = TextAdapter(model=args.model, device="cpu")
    adapter.load()
    model: Any = adapter.backbone
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    task, namm = LongTextTask(words=args.words), Namm.from_pretrained(args.checkpoint)
    samples = task.samples(args.split, args.samples * len(task.families), 0)
    chosen = policy(NAMM, checkpoint=args.checkpoint)
    needs, fractions = [], []
    for prompt in Prompts(Tokenized(adapter), samples).all():
        mask = near_answer(adapter.tokenizer, prompt)
        examples = record(model, prompt, namm.spectrogram, namm.interval)
        last = [example for example in examples if example.seen <= len(mask)][-1]
        with (
            torch.no_grad(),
            attach(model, chosen, interval=namm.interval, storage="per_head") as memory,
        ):
            model(**prompt.inputs.tensors, use_cache=True, logits_to_keep=1)
        heads = [[len(head) for head in memory.kept(layer)] for layer in range(memory.layers)]
        needs.append(restricted(last, mask).importance.sum(1).view(len(heads), -1).numpy())
        fractions.append(np.array(heads) / len(mask))
    need, kept = np.mean(needs, axis=0), np.mean(fractions, axis=0)
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "split": args.split,
        "prompts": len(needs),
        "need": np.round(need / need.sum(), 5).tolist(),
        "held": np.round(kept, 4).tolist(),
    }


def in_words(found: Facts) -> str:
    """Return how need and memory are spread, in a few lines."""
    need, kept = np.array(found["need"]).ravel(), np.array(found["held"]).ravel()
    order = np.argsort(need)[::-1]
    covered = float((need * kept).sum())
    return "\n".join(
        [
            f"{found['prompts']} {found['split']} prompts, {found['model']}, NAMM "
            f"{found['checkpoint']}, storage per head",
            f"{len(need)} heads; the 2 most needed have {need[order[:2]].sum():.0%} of the need, "
            f"the {TOP} most needed {need[order[:TOP]].sum():.0%}",
            f"tokens kept: {kept.mean():.0%}, in the {TOP} most needed heads "
            f"{kept[order[:TOP]].mean():.0%}, in the others {kept[order[TOP:]].mean():.0%}",
            f"need that is kept (mean weighted by need): {covered:.0%}",
            f"rank correlation of need and memory over heads: {_rank_correlation(need, kept):.2f}",
        ]
    )


def _rank_correlation(first: Any, second: Any) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def draw(found: Facts, path: Path) -> None:
    """Draw need and memory as two maps of layers and heads."""
    figure = Figure(figsize=(9, 3.6))
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, key, title in (
        (upper, "need", "share of what answers need"),
        (lower, "held", "fraction of the tokens kept"),
    ):
        image = axes.imshow(np.array(found[key]).T, aspect="auto", cmap="viridis", vmin=0)
        axes.set_ylabel("head")
        axes.set_title(title, fontsize=10, loc="left")
        figure.colorbar(image, ax=axes)
    lower.set_xlabel("layer")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
