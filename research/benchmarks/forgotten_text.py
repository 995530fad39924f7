"""Which text tokens a policy evicts, by the kind of token and by layer.

    python research/benchmarks/forgotten_text.py --checkpoint namm.safetensors --samples 40

Held-out prompts of the long-text task are read under the NAMM, and under other policies with as
many tokens in every layer after every update (``match:namm``). A token is kept in part: the mean
over layers and heads at the end. The *share* of a kind is the kept fraction of its tokens, divided
by the kept fraction of all tokens of the same tenth of the prompt, because every policy depends on
age; 1 is no preference. The table has means over prompts with 95 % intervals. A kind with fewer
than three tokens in a prompt is left out of that prompt. Kinds: see ``token_kinds.py``.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.memory import Memory
from namm_mm.namm import Namm
from namm_mm.tasks.long_text.task import LongTextTask
from research.benchmarks.common import (
    NAMM,
    RESULTS,
    Facts,
    interval,
    kept_by_token,
    markdown,
    namm_and_unlearned,
    options,
    parse,
    report,
)
from research.benchmarks.token_kinds import Kinds

FEWEST = 3
PARTS = 10


def main() -> None:
    """Measure, print, and write the numbers and the picture."""
    parser = options(
        __doc__,
        checkpoint="evolved",
        model="smollm2-135m-instruct",
        samples=20,
        words=400,
        split="test",
        storage="per_head",
        out=RESULTS / "forgotten_text",
    )
    args = parse(parser)
    args.interval = Namm.from_pretrained(args.checkpoint).interval
    report(measure(args), args.out, in_words, draw)


class Shares:
    """Shares of each kind of token: over all layers, and by layer."""

    def __init__(self) -> None:
        self.overall: dict[str, list[float]] = defaultdict(list)
        self.by_layer: dict[str, list[Any]] = defaultdict(list)

    def add(self, kept: NDArray[np.float64], kinds: list[str]) -> None:
        """Add a prompt: what is kept of its tokens, (layer, token), and their kinds."""
        expected = _by_place(kept)
        for kind in set(kinds):
            own = np.array([k == kind for k in kinds])
            if own.sum() >= FEWEST and expected[:, own].mean() > 0:
                at_most = np.maximum(expected[:, own].mean(1), 1e-9)
                self.by_layer[kind].append(kept[:, own].mean(1) / at_most)
                self.overall[kind].append(kept[:, own].mean() / expected[:, own].mean())

    def intervals(self) -> dict[str, dict[str, float] | None]:
        """Return the share of each kind over prompts, with its interval."""
        return {kind: interval(values, 3) for kind, values in sorted(self.overall.items())}


def measure(args: argparse.Namespace) -> Facts:
    """Read every prompt under every policy; return the shares by policy and kind."""
    adapter = TextAdapter(model=args.model, device="cpu")
    adapter.load()
    task = LongTextTask(words=args.words)
    kinds_of = Kinds(adapter, args.split)
    shares: dict[str, Shares] = defaultdict(Shares)
    sizes = []
    for sample in task.samples(args.split, args.samples * len(task.families), 0):
        kinds, inputs = kinds_of(sample), adapter.prepare(sample)

        def read(memory: Memory, tensors: Any = inputs.tensors) -> None:
            with torch.no_grad():
                adapter.backbone(**tensors, use_cache=True, logits_to_keep=1)

        for name, memory in namm_and_unlearned(adapter.backbone, args, "threshold", read):
            kept = kept_by_token(memory, len(kinds))
            if name == NAMM:
                sizes.append(float(kept.mean()))
            shares[name].add(kept, kinds)
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "words": args.words,
        "split": args.split,
        "storage": args.storage,
        "prompts": len(sizes),
        "kept": round(float(np.mean(sizes)), 4),
        "shares": {name: own.intervals() for name, own in shares.items()},
        "by_layer": {
            kind: np.round(np.mean(values, axis=0), 3).tolist()
            for kind, values in sorted(shares[NAMM].by_layer.items())
        },
    }


def _by_place(kept: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (layer, token): what is kept of the tokens of the same tenth of the prompt."""
    expected = np.empty_like(kept)
    for part in np.array_split(np.arange(kept.shape[1]), PARTS):
        expected[:, part] = kept[:, part].mean(1, keepdims=True)
    return expected


def in_words(found: Facts) -> str:
    """Return the shares as a table."""
    names = list(found["shares"])
    rows = []
    for kind in found["shares"][NAMM]:
        shares = (found["shares"][name].get(kind) for name in names)
        rows.append([kind, *("" if share is None else _ends(share) for share in shares)])
    title = (
        f"{found['prompts']} {found['split']} prompts, {found['model']}, NAMM "
        f"{found['checkpoint']}, {found['kept']:.0%} of the tokens kept at the end"
    )
    return f"{title}\n{markdown(['kind', *names], rows)}"


def _ends(share: dict[str, float]) -> str:
    return f"{share['mean']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"


def draw(found: Facts, path: Path) -> None:
    """Draw the shares of the NAMM by kind, and by layer."""
    shares = found["shares"][NAMM]
    kinds = sorted(shares, key=lambda kind: shares[kind]["mean"])
    figure = Figure(figsize=(11, 4.5))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    means = np.array([shares[kind]["mean"] for kind in kinds])
    ends = np.array([[shares[kind]["low"], shares[kind]["high"]] for kind in kinds])
    left.errorbar(means, kinds, xerr=np.abs(ends - means[:, None]).T, fmt="o", color="#d62728")
    left.axvline(1.0, color="grey", linewidth=0.8)
    left.set_xlabel("kept, relative to tokens of the same age")
    table = np.array([found["by_layer"][kind] for kind in kinds])
    image = right.imshow(table, aspect="auto", cmap="RdBu_r", vmin=0, vmax=2, origin="lower")
    right.set_yticks(range(len(kinds)), kinds)
    right.set_xlabel("layer")
    figure.colorbar(image, ax=right)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
