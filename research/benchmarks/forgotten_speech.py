"""Which parts of a talk a policy evicts: silence, pauses, phrases, words, and words said again.

    python research/benchmarks/forgotten_speech.py --samples 12

Test talks of ``word``, ``twice`` and ``needle`` are read under the NAMM, and under other policies
with as many tokens in every layer after every update (``match:namm``). A token is kept in part: the
mean over layers and heads at the end. The *share* of a kind is the kept fraction of its tokens,
divided by that of all tokens of the same tenth of the prompt; 1 is no preference. Kinds: a *pause*
lies between two texts, a *long pause* has a second or more, *again* is a word that was said before,
and a *phrase* is never asked about.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.adapters.speech.kinds import SOUND_KIND
from namm_mm.memory import Memory
from namm_mm.records import Inputs
from namm_mm.tasks.speech_qa import SpeechQaTask
from research.benchmarks import common
from research.benchmarks.common import NAMM, RESULTS, Facts
from research.benchmarks.forgotten_text import Shares, in_words

FAMILIES = ("word", "twice", "needle")
LONG = 1.0
"""Seconds from which a pause is a long one."""

TEXT = "prompt"
"""Kind of the tokens that are not of the sound."""


def main() -> None:
    """Measure, print, and write the numbers and the picture."""
    parser = common.options(
        __doc__,
        checkpoint="general",
        model="smollm2_speech",
        families=FAMILIES,
        samples=12,
        budget="pool:0.4",
        interval=64,
        split="test",
        storage="per_head",
        out=RESULTS / "forgotten_speech",
    )
    args = common.parse(parser)
    common.report(measure(args), args.out, in_words, draw)


def measure(args: argparse.Namespace) -> Facts:
    """Read every talk under every policy; return the shares by policy and kind, and one talk."""
    adapter = SpeechAdapter(model=args.model, device="cpu", encode_once=True)
    adapter.load()
    task = SpeechQaTask(families=args.families, words="known")
    shares: dict[str, Shares] = {}
    sizes: list[float] = []
    shown: dict[str, Any] = {}
    for sample in task.samples(args.split, args.samples * len(args.families), 0):
        inputs = adapter.prepare(sample)
        kinds = kinds_of(inputs, adapter.loaded.token_seconds)
        heard = np.array([kind != TEXT for kind in kinds])

        def read(memory: Memory, inputs: Inputs = inputs) -> None:
            adapter.answer(inputs, memory)

        for name, memory in common.namm_and_unlearned(adapter.backbone, args, args.budget, read):
            kept = common.kept_by_token(memory, len(kinds))
            if name == NAMM:
                sizes.append(float(kept.mean()))
            shares.setdefault(name, Shares()).add(kept, kinds)
            if sample.family == "twice" and sample.seed == 0:
                shown.setdefault("kept", {})[name] = kept[:, heard].mean(0).round(3).tolist()
                shown |= {"said": sample.metadata["said"], "sample": sample.id}
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "split": args.split,
        "budget": args.budget,
        "storage": args.storage,
        "prompts": len(sizes),
        "kept": round(float(np.mean(sizes)), 4),
        "shares": {name: own.intervals() for name, own in shares.items()},
        "token_seconds": adapter.loaded.token_seconds,
        "shown": shown,
    }


def kinds_of(inputs: Inputs, token_seconds: float) -> list[str]:
    """Return the kind of each token of a prompt, by what is said at its time."""
    sample = inputs.sample
    found, place = [], 0
    for one in inputs.token_types:
        if one.kind != SOUND_KIND:
            found.append(TEXT)
            continue
        found.append(_kind_at((place + 0.5) * token_seconds, sample.metadata["said"]))
        place += 1
    return found


def _kind_at(time: float, said: list[dict[str, Any]]) -> str:
    """Return what a talk does at a time."""
    before, texts = 0.0, set[str]()
    for one in said:
        if time < one["start"]:
            return "long pause" if one["start"] - before >= LONG else "pause"
        if time < one["end"]:
            if " " in one["text"]:
                return "password" if one["text"].startswith("the password is") else "phrase"
            return "again" if one["text"] in texts else "word"
        texts.add(one["text"])
        before = one["end"]
    return "silence at the end"


def draw(found: Facts, path: Path) -> None:
    """Draw the shares by kind under every policy, and what is kept of one talk."""
    figure = Figure(figsize=(11, 4.5))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    kinds = [kind for kind in found["shares"][NAMM] if kind != TEXT]
    for place, (name, shares) in enumerate(found["shares"].items()):
        values = [shares.get(kind) for kind in kinds]
        means = np.array([value["mean"] if value else np.nan for value in values])
        ends = np.array([[v["low"], v["high"]] if v else [np.nan] * 2 for v in values])
        at = np.arange(len(kinds)) + 0.12 * (place - 2)
        left.errorbar(means, at, xerr=np.abs(ends - means[:, None]).T, fmt="o", ms=4, label=name)
    left.set_yticks(range(len(kinds)), kinds)
    left.axvline(1.0, color="grey", linewidth=0.8)
    left.set_xlabel("kept, relative to tokens of the same age")
    left.legend(fontsize=8)
    shown = found["shown"]
    for name, kept in shown["kept"].items():
        seconds = (np.arange(len(kept)) + 0.5) * found["token_seconds"]
        right.plot(seconds, kept, label=name, linewidth=2.0 if name == NAMM else 0.9)
    for one in shown["said"]:
        right.axvspan(one["start"], one["end"], color="grey", alpha=0.2, linewidth=0)
        right.text(one["start"], 1.02, one["text"], fontsize=8, rotation=30)
    right.set_xlabel("seconds of one talk; grey: something is said")
    right.set_ylabel("part of the heads that keep the token")
    right.set_ylim(0, 1.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
