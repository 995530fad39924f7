"""What a policy forgets of text, by the kind of token and by layer.

    python research/benchmarks/forgotten_text.py --checkpoint namm.safetensors --samples 40

Held-out prompts of the long-text task are read under the NAMM, and under the other policies with as
many tokens in every layer after every update (``match:namm``). At the end a token is held in part:
the mean over layers and heads. A kind's *share* is how much is held of its tokens, divided by how
much is held of all tokens of the same tenth of the prompt, because age matters to every policy: 1
is no preference. Means over prompts, with 95 % bootstrap intervals; kinds of fewer than three
tokens in a prompt are left out there.

Prose: words by how often they occur in the source, numbers, punctuation, line breaks, and *answer*,
the tokens that say what will be asked for. Code: as Python's own tokenizer names it.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
import io
import json
import keyword
import tokenize
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from namm_mm import attach, policy
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.namm import Namm
from namm_mm.policies import budgets
from namm_mm.records import Sample, Trace
from namm_mm.results.statistics import mean_interval
from namm_mm.tasks.long_text.families import Haystack
from namm_mm.tasks.long_text.sources import prose
from namm_mm.tasks.long_text.task import CODE, LongTextTask

OTHERS = ("h2o", "attention_max", "l2", "recency", "random")
FREQUENT, KNOWN = 100, 1500  # ranks of words in the source
FEWEST = 3
PARTS = 10


def main() -> None:
    """Read, count, print, and write the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="evolved", help="the NAMM")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--samples", type=int, default=20, help="of each family")
    parser.add_argument("--words", type=int, default=400)
    parser.add_argument("--split", default="test")
    parser.add_argument("--storage", default="per_head", help="or shared")
    parser.add_argument("--out", type=Path, default=Path("research/results/forgotten_text"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = watch(args)
    print(words(found))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, args.out.with_suffix(".png"))


def watch(args: argparse.Namespace) -> dict[str, Any]:
    """Read every prompt under every policy; shares by policy and kind, and the NAMM's by layer."""
    adapter = TextAdapter(model=args.model, device="cpu")
    adapter.load()
    task = LongTextTask(words=args.words)
    kinds_of = Kinds(adapter, task, args.split)
    shares: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    by_layer: dict[str, list[Any]] = defaultdict(list)
    sizes, interval = [], Namm.from_pretrained(args.checkpoint).interval
    for sample in task.samples(args.split, args.samples * len(task.families), 0):
        kinds = kinds_of(sample)
        inputs = adapter.prepare(sample)
        traces: dict[str, tuple[Trace, ...]] = {}
        for name in ("namm", *OTHERS):
            chosen: Any = policy(
                name, **({"checkpoint": args.checkpoint} if name == "namm" else {})
            )
            if name != "namm":
                matched = budgets.parse("match:namm", traces)
                chosen = replace(chosen, budget=matched)
            with (
                torch.no_grad(),
                attach(adapter.backbone, chosen, interval=interval, storage=args.storage) as memory,
            ):
                adapter.backbone(**inputs.tensors, use_cache=True, logits_to_keep=1)
            traces[name] = (memory.trace(),)
            held = _held(memory, len(inputs.token_types))
            if name == "namm":
                sizes.append(float(held.mean()))
            expected = _by_place(held)
            for kind in set(kinds):
                own = np.array([k == kind for k in kinds])
                if own.sum() >= FEWEST and expected[:, own].mean() > 0:
                    layers = held[:, own].mean(1) / np.maximum(expected[:, own].mean(1), 1e-9)
                    shares[name][kind].append(held[:, own].mean() / expected[:, own].mean())
                    if name == "namm":
                        by_layer[kind].append(layers)
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "words": args.words,
        "split": args.split,
        "storage": args.storage,
        "prompts": len(sizes),
        "kept": round(float(np.mean(sizes)), 4),
        "shares": {
            name: {kind: _ends(values) for kind, values in sorted(kinds.items())}
            for name, kinds in shares.items()
        },
        "by_layer": {
            kind: np.round(np.mean(values, axis=0), 3).tolist()
            for kind, values in sorted(by_layer.items())
        },
    }


class Kinds:
    """Names the kind of every token of a prompt."""

    def __init__(self, adapter: TextAdapter, task: LongTextTask, split: str) -> None:
        self.tokenizer = adapter.tokenizer
        ranked = [
            word
            for word, _ in Haystack([d.paragraphs for d in prose(split)]).frequency.most_common()
        ]
        self.rank = {word: number for number, word in enumerate(ranked)}

    def __call__(self, sample: Sample) -> list[str]:
        """One kind for each token of the prompt."""
        apart = "" if sample.context[-1:].isspace() else "\n\n"
        text = (sample.context + apart + sample.question).rstrip()
        spans = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        letters = (
            _code_letters(text) if sample.family == CODE else self._prose_letters(sample, text)
        )
        kinds = []
        for start, stop in spans:
            inside = [
                k for k, c in zip(letters[start:stop], text[start:stop], strict=True) if c != " "
            ]
            kinds.append(
                inside[0] if inside else ("line break" if sample.family != CODE else "space")
            )
        return kinds

    def _prose_letters(self, sample: Sample, text: str) -> list[str]:
        import re

        letters = ["punctuation"] * len(text)
        for match in re.finditer(r"[A-Za-z]+|[0-9]+|\n+", text):
            word = match.group().lower()
            rank = self.rank.get(word, len(self.rank))
            kind = (
                "frequent word"
                if rank < FREQUENT
                else "known word"
                if rank < KNOWN
                else "rare word"
            )
            if word[0].isdigit():
                kind = "number"
            elif word[0] == "\n":
                kind = "line break"
            letters[match.start() : match.end()] = [kind] * len(word)
        context = len(sample.context)
        for match in re.finditer(re.escape(sample.answer), text):
            if match.end() <= context:
                letters[match.start() : match.end()] = ["answer"] * (match.end() - match.start())
        return letters


def _code_letters(text: str) -> list[str]:
    letters = ["space"] * len(text)
    starts = np.cumsum([0, *(len(line) for line in text.splitlines(keepends=True))])
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = {
                tokenize.COMMENT: "comment",
                tokenize.STRING: "string",
                tokenize.NUMBER: "number in code",
                tokenize.OP: "operator",
                tokenize.NAME: "keyword" if keyword.iskeyword(token.string) else "name",
            }.get(token.type)
            if kind is not None:
                start = starts[token.start[0] - 1] + token.start[1]
                stop = starts[token.end[0] - 1] + token.end[1]
                letters[start:stop] = [kind] * (stop - start)
    except (tokenize.TokenError, IndentationError, SyntaxError):
        pass  # an excerpt may end inside of a string; what came before it is named
    return letters


def _held(memory: Any, tokens: int) -> Any:
    """(layer, token) float64: part of the heads that hold the token."""
    found = np.zeros((memory.layers, tokens))
    for layer in range(memory.layers):
        kept = memory.kept(layer)
        for head in kept:
            found[layer, head.numpy()] += 1.0 / len(kept)
    return found


def _by_place(held: Any) -> Any:
    """(layer, token): what is held of the tokens of the same tenth of the prompt."""
    expected = np.empty_like(held)
    for part in np.array_split(np.arange(held.shape[1]), PARTS):
        expected[:, part] = held[:, part].mean(1, keepdims=True)
    return expected


def _ends(values: list[float]) -> dict[str, float]:
    found = mean_interval(values)
    low, high = (found.low, found.high) if found is not None else (float("nan"),) * 2
    return {
        "mean": round(float(np.mean(values)), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "prompts": len(values),
    }


def words(found: dict[str, Any]) -> str:
    """The shares as a table."""
    names = list(found["shares"])
    lines = [
        f"{found['prompts']} {found['split']} prompts, {found['model']}, NAMM "
        f"{found['checkpoint']}, {found['kept']:.0%} of the tokens held at the end",
        "| kind | " + " | ".join(names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for kind in found["shares"]["namm"]:
        cells = []
        for name in names:
            share = found["shares"][name].get(kind)
            cells.append(
                ""
                if share is None
                else f"{share['mean']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"
            )
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """The NAMM's shares by kind, and by layer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = found["shares"]["namm"]
    kinds = sorted(shares, key=lambda kind: shares[kind]["mean"])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), width_ratios=(1, 1.3))
    means = np.array([shares[kind]["mean"] for kind in kinds])
    ends = np.array([[shares[kind]["low"], shares[kind]["high"]] for kind in kinds])
    left.errorbar(means, kinds, xerr=np.abs(ends - means[:, None]).T, fmt="o", color="#d62728")
    left.axvline(1.0, color="grey", linewidth=0.8)
    left.set_xlabel("held, relative to tokens of the same age")
    table = np.array([found["by_layer"][kind] for kind in kinds])
    image = right.imshow(table, aspect="auto", cmap="RdBu_r", vmin=0, vmax=2, origin="lower")
    right.set_yticks(range(len(kinds)), kinds)
    right.set_xlabel("layer")
    figure.colorbar(image, ax=right)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
