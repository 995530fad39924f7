"""Where answers need memory, and where a NAMM spends it: head by head.

    python research/benchmarks/memory_by_head.py --checkpoint evolved --samples 8

For held-out prompts of the long-text task: how much of what the answer needs lies in each head of
SmolLM2 (the slope of its log-probability along every token near a place that says the answer, with
the full cache, after the last update), and which part of the tokens each head holds under the NAMM,
every head with a size of its own. The NAMM is not told which head it looks at: it sees attention.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from namm_mm import attach, policy
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.evolution.prompts import Prompts, Tokenized
from namm_mm.namm import Namm
from namm_mm.tasks.long_text.task import LongTextTask
from research.gradients.importance import narrow, record
from research.gradients.needed import needed

TOP = 20


def main() -> None:
    """Measure, print, and write the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="evolved", help="the NAMM")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--samples", type=int, default=8, help="of each family")
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=Path("research/results/memory_by_head"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(args)
    print(words(found))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, args.out.with_suffix(".png"))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Shares of the need, and parts held, (layer, head) each: means over prompts."""
    adapter = TextAdapter(model=args.model, device="cpu")
    adapter.load()
    for parameter in adapter.backbone.parameters():
        parameter.requires_grad_(False)
    task, namm = LongTextTask(words=args.words), Namm.from_pretrained(args.checkpoint)
    samples = task.samples(args.split, args.samples * len(task.families), 0)
    needs, parts = [], []
    for prompt in Prompts(Tokenized(adapter), samples).all():
        mask = needed(adapter.tokenizer, prompt)
        shown = record(adapter.backbone, prompt, namm.spectrogram, namm.interval)
        last = [one for one in shown if one.seen <= len(mask)][-1]
        with (
            torch.no_grad(),
            attach(
                adapter.backbone,
                policy("namm", checkpoint=args.checkpoint),
                interval=namm.interval,
                storage="per_head",
            ) as memory,
        ):
            adapter.backbone(**prompt.inputs.tensors, use_cache=True, logits_to_keep=1)
        heads = [[len(head) for head in memory.kept(layer)] for layer in range(memory.layers)]
        needs.append(narrow(last, mask).importance.sum(1).view(len(heads), -1).numpy())
        parts.append(np.array(heads) / len(mask))
    need, part = np.mean(needs, axis=0), np.mean(parts, axis=0)
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "split": args.split,
        "prompts": len(needs),
        "need": np.round(need / need.sum(), 5).tolist(),
        "held": np.round(part, 4).tolist(),
    }


def words(found: dict[str, Any]) -> str:
    """How need and memory are spread, in a few lines."""
    need, held = np.array(found["need"]).ravel(), np.array(found["held"]).ravel()
    order = np.argsort(need)[::-1]
    covered = float((need * held).sum())
    return "\n".join(
        [
            f"{found['prompts']} {found['split']} prompts, {found['model']}, NAMM "
            f"{found['checkpoint']}, every head with a size of its own",
            f"{len(need)} heads; the 2 most needed carry {need[order[:2]].sum():.0%} of what "
            f"answers need, the {TOP} most needed {need[order[:TOP]].sum():.0%}",
            f"tokens held: {held.mean():.0%}, in the {TOP} most needed heads "
            f"{held[order[:TOP]].mean():.0%}, in the others {held[order[TOP:]].mean():.0%}",
            f"held where it is needed (mean weighted by need): {covered:.0%}",
            f"rank correlation of need and memory over heads: {_rank_correlation(need, held):.2f}",
        ]
    )


def _rank_correlation(first: Any, second: Any) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def draw(found: dict[str, Any], path: Path) -> None:
    """Need and memory as two maps of layers and heads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(9, 3.6), sharex=True)
    for axes, key, title in (
        (upper, "need", "share of what answers need"),
        (lower, "held", "part of the tokens held"),
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
