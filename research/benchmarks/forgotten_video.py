"""Which frames of a video a policy evicts, and what happens to the frames that show the answer.

    python research/benchmarks/forgotten_video.py --checkpoint namm.safetensors
    python research/benchmarks/forgotten_video.py --families shown order count --samples 40
    python research/benchmarks/forgotten_video.py --model smollm2_video --budget pool:0.1 \
        --interval 128

Every question is answered under the NAMM, and under other policies with as many tokens in every
layer after every update (``match:namm``). A frame is kept in part: the mean over its tokens, layers
and heads at the end. *Evidence* frames show the answer. *Idle* frames are no evidence and show no
object and no cut. Every policy depends on age; evidence is therefore also compared with idle frames
at the same place of the video, in videos of the same length. Differences are means over samples
with 95 % intervals.

Writes OUT.json and OUT.png.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.experiment.kept import by_index, kept_fractions
from namm_mm.memory import Memory
from namm_mm.records import Inputs, Sample
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.generated import slots_of_frames
from namm_mm.tasks.video_qa.questions import COVERED
from research.benchmarks.common import (
    NAMM,
    RESULTS,
    Facts,
    interval,
    namm_and_unlearned,
    options,
    parse,
    report,
)

REACH = 6
"""Frames before and after the first frame of the evidence that the picture shows."""


@dataclass(frozen=True)
class Answered:
    """One answered question: which part of each frame was kept, and what the frames show."""

    family: str
    right: bool
    kept: Any  # (frame,) float64
    evidence: Any  # (frame,) bool
    idle: Any  # (frame,) bool


def main() -> None:
    """Measure, print, and write the numbers and the picture."""
    parser = options(
        __doc__,
        model="pocket_video",
        checkpoint="general",
        budget="pool:0.5",
        storage="per_head",
        answer_by="auto",
        families=COVERED,
        samples=40,
        interval=64,
        split="test",
        seed=0,
        out=RESULTS / "forgotten_video",
    )
    args = parse(parser)
    report(tables(measure(args), args), args.out, in_words, draw)


def measure(args: argparse.Namespace) -> dict[str, list[Answered]]:
    """Answer every question under every policy; return the answers by policy."""
    adapter = LlavaVideoAdapter(model=args.model, device="cpu", answer_by=args.answer_by)
    adapter.load()
    task = VideoQaTask(families=args.families)
    found: dict[str, list[Answered]] = defaultdict(list)
    for sample in task.samples(args.split, args.samples * len(args.families), args.seed):
        inputs, texts = adapter.prepare(sample), list[str]()

        def answer(memory: Memory, inputs: Inputs = inputs, texts: list[str] = texts) -> None:
            texts.append(adapter.answer(inputs, memory).text)

        for name, memory in namm_and_unlearned(adapter.backbone, args, args.budget, answer):
            fractions = kept_fractions(memory, inputs.token_types)
            kept = np.asarray(by_index(fractions, inputs.token_types)["frame"])
            found[name].append(answered(sample, texts[-1] == sample.answer, kept))
    return found


def answered(sample: Sample, right: bool, kept: Any) -> Answered:
    """Return the answer with what each frame shows: evidence, or nothing."""
    facts = sample.metadata
    slots = slots_of_frames(facts, len(kept))
    starts = [start for start, _ in facts["walls"][1:]] + [cut["start"] for cut in facts["cuts"]]
    busy = set(facts["evidence"]) | set(starts)
    for event in facts["events"]:
        busy |= set(range(event["start"], event["start"] + event["length"]))
    evidence = np.isin(slots, facts["evidence"])
    idle = ~np.isin(slots, sorted(busy))
    return Answered(sample.family, right, kept, evidence, idle)


def tables(found: dict[str, list[Answered]], args: argparse.Namespace) -> Facts:
    """Return all numbers, by policy."""
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "budget": args.budget,
        "storage": args.storage,
        "interval": args.interval,
        "split": args.split,
        "seed": args.seed,
        "samples": len(found[NAMM]),
        "policies": {name: _policy(answers) for name, answers in found.items()},
        "by_family": {
            family: {
                name: interval(_differences(answers, _idle(answers), family))
                for name, answers in found.items()
            }
            for family in args.families
        },
    }


def _policy(answers: list[Answered]) -> Facts:
    longest = max(len(one.kept) for one in answers)
    whole = [one for one in answers if len(one.kept) == longest]
    idle = _idle(answers)
    evidence = [float(one.kept[one.evidence].mean()) for one in answers]
    by_right: dict[bool, list[float]] = {True: [], False: []}
    for one, kept in zip(answers, evidence, strict=True):
        by_right[one.right].append(kept)
    return {
        "accuracy": interval([float(one.right) for one in answers]),
        "kept": interval([float(one.kept.mean()) for one in answers]),
        "kept_of_evidence": interval(evidence),
        "kept_of_idle": interval(
            [float(one.kept[one.idle].mean()) for one in answers if one.idle.any()]
        ),
        "difference": interval(_differences(answers, idle)),
        "kept_of_evidence_where_right": interval(by_right[True]),
        "kept_of_evidence_where_wrong": interval(by_right[False]),
        "by_frame": np.round(np.mean([one.kept for one in whole], axis=0), 4).tolist(),
        "around_evidence": _around(whole, idle),
    }


def _differences(answers: list[Answered], idle: dict[int, Any], family: str = "") -> list[float]:
    """Return evidence minus idle frames at the same place, mean of each sample of `family`."""
    found = []
    for one in answers:
        over = (one.kept - idle[len(one.kept)])[one.evidence]
        over = over[np.isfinite(over)]
        if len(over) and family in ("", one.family):
            found.append(float(over.mean()))
    return found


def _idle(answers: list[Answered]) -> dict[int, Any]:
    """Return what is kept of idle frames, by length of the video and place; NaN where none is."""
    found = {}
    for length in {len(one.kept) for one in answers}:
        own = [one for one in answers if len(one.kept) == length]
        kept = np.stack([np.where(one.idle, one.kept, np.nan) for one in own])
        count = np.isfinite(kept).sum(0)
        found[length] = np.where(count > 0, np.nansum(kept, 0) / np.maximum(count, 1), np.nan)
    return found


def _around(answers: list[Answered], idle: dict[int, Any]) -> list[float | None]:
    """Return what is kept, minus idle frames, from `REACH` frames before the evidence to after."""
    sums: dict[int, list[float]] = defaultdict(list)
    for one in answers:
        first = int(np.argmax(one.evidence))
        for offset in range(-REACH, REACH + 1):
            if 0 <= first + offset < len(one.kept):
                over = (one.kept - idle[len(one.kept)])[first + offset]
                if np.isfinite(over):
                    sums[offset].append(float(over))
    return [
        round(float(np.mean(sums[offset])), 4) if sums[offset] else None
        for offset in range(-REACH, REACH + 1)
    ]


def in_words(found: Facts) -> str:
    """Return the numbers as a table."""
    lines = [
        f"{found['model']}, NAMM {found['checkpoint']}, interval {found['interval']}, "
        f"{found['samples']} {found['split']} samples, seed {found['seed']}; the others keep as "
        "many tokens",
        "",
        "policy   accuracy  kept  of evidence  of idle   evidence - idle at the same place",
    ]
    for name, own in found["policies"].items():
        difference = own["difference"]
        lines.append(
            f"{name:<8} {own['accuracy']['mean']:8.3f} {own['kept']['mean']:5.2f} "
            f"{own['kept_of_evidence']['mean']:12.2f} {own['kept_of_idle']['mean']:8.2f}   "
            f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
        )
    lines += ["", "evidence - idle at the same place, by family"]
    for family, own in found["by_family"].items():
        shown = (f"{name} {d['mean']:+.2f}" for name, d in own.items() if d)
        lines.append(f"{family:<9} " + ", ".join(shown))
    return "\n".join(lines)


def draw(found: Facts, path: Path) -> None:
    """Draw what is kept by frame, and around the evidence."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, own in found["policies"].items():
        wide = {"linewidth": 2.5 if name == NAMM else 1.2}
        left.plot(own["by_frame"], label=name, **wide)
        around = [np.nan if value is None else value for value in own["around_evidence"]]
        right.plot(range(-REACH, REACH + 1), around, label=name, **wide)
    left.set(xlabel="frame", ylabel="kept at the end", ylim=(0, 1.02))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set(xlabel="frames after the evidence begins", ylabel="kept, minus idle frames there")
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
