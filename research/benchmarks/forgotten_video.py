"""What a policy forgets of a video: per frame, and around the frames that show the answer.

In `research/`:

    python benchmarks/forgotten_video.py --checkpoint namm.safetensors
    python benchmarks/forgotten_video.py --families shown order count --samples 40
    python benchmarks/forgotten_video.py --model smollm2_video --budget pool:0.1 --interval 128

Every question is answered under the NAMM, and under each of the baselines with as many tokens
in every layer after every update (``match:namm``). At the end each frame is held in part: the mean
over its tokens, layers and heads. *Evidence* frames show the answer; *idle* frames show no object
and no cut and are no evidence. Age matters to every policy, so that evidence is also compared with
idle frames at the same place of the video, in videos of the same length. Differences are means over
samples with 95 % bootstrap intervals.

Writes OUT.json, every number below, and OUT.png.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from namm_mm import attach, policy
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.experiment.kept import by_index, kept_fractions
from namm_mm.policies import budgets
from namm_mm.records import Inputs, Sample, Trace
from namm_mm.results.statistics import Interval, mean_interval
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.generated import slots_of_frames
from namm_mm.tasks.video_qa.questions import COVERED

OTHERS = ("h2o", "attention_max", "l2", "recency", "random")
REACH = 6
"""Frames before and after the first frame of the evidence that the window shows."""


@dataclass(frozen=True)
class Seen:
    """One answered question: which part of each frame was held, and what the frames show."""

    sample: str
    family: str
    right: bool
    held: Any  # (frame,) float64
    evidence: Any  # (frame,) bool
    idle: Any  # (frame,) bool


def main() -> None:
    """Answer, count, print, and write the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket_video")
    parser.add_argument("--checkpoint", default="general", help="the NAMM")
    parser.add_argument("--budget", default="pool:0.5", help="of the NAMM")
    parser.add_argument("--storage", default="per_head", help="or shared")
    parser.add_argument("--answer-by", default="auto")
    parser.add_argument("--families", nargs="+", default=list(COVERED))
    parser.add_argument("--samples", type=int, default=40, help="of each family")
    parser.add_argument("--interval", type=int, default=64, help="tokens between two evictions")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("research/results/forgotten_video"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = tables(watch(args), args)
    print(words(found))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, args.out.with_suffix(".png"))


def watch(args: argparse.Namespace) -> dict[str, list[Seen]]:
    """Answer every question under every policy; what was held, by policy."""
    adapter = LlavaVideoAdapter(model=args.model, device="cpu", answer_by=args.answer_by)
    adapter.load()
    task = VideoQaTask(families=args.families)
    found: dict[str, list[Seen]] = defaultdict(list)
    for sample in task.samples(args.split, args.samples * len(args.families), args.seed):
        inputs = adapter.prepare(sample)
        traces: dict[str, tuple[Trace, ...]] = {}
        for name in ("namm", *OTHERS):
            options = {"checkpoint": args.checkpoint} if name == "namm" else {}
            chosen: Any = policy(name, **options)
            budget = args.budget if name == "namm" else "match:namm"
            selection = budgets.parse(budget, traces)
            chosen = replace(chosen, budget=selection)
            rules: Any = {"interval": args.interval, "storage": args.storage}
            with attach(adapter.backbone, chosen, **rules) as memory:
                text = adapter.answer(inputs, memory).text
            traces[name] = (memory.trace(),)
            fractions = kept_fractions(memory, inputs.token_types)
            held = np.asarray(by_index(fractions, inputs.token_types)["frame"])
            found[name].append(seen(sample, inputs, text == sample.answer, held))
    return found


def seen(sample: Sample, inputs: Inputs, right: bool, held: Any) -> Seen:
    """Say of each frame that was read whether it is evidence, and whether it is idle."""
    facts = sample.metadata
    slots = slots_of_frames(facts, len(held))
    starts = [start for start, _ in facts["walls"][1:]] + [cut["start"] for cut in facts["cuts"]]
    busy = set(facts["evidence"]) | set(starts)
    for event in facts["events"]:
        busy |= set(range(event["start"], event["start"] + event["length"]))
    evidence = np.isin(slots, facts["evidence"])
    idle = ~np.isin(slots, sorted(busy))
    return Seen(sample.id, sample.family, right, held, evidence, idle)


def tables(found: dict[str, list[Seen]], args: argparse.Namespace) -> dict[str, Any]:
    """All numbers, by policy."""
    return {
        "model": args.model,
        "checkpoint": args.checkpoint,
        "budget": args.budget,
        "storage": args.storage,
        "interval": args.interval,
        "split": args.split,
        "seed": args.seed,
        "samples": len(found["namm"]),
        "policies": {name: _policy(lines) for name, lines in found.items()},
        "by_family": {
            family: {
                name: _ends(_differences(lines, _usual(lines), family))
                for name, lines in found.items()
            }
            for family in args.families
        },
    }


def _policy(lines: list[Seen]) -> dict[str, Any]:
    longest = max(len(line.held) for line in lines)
    whole = [line for line in lines if len(line.held) == longest]
    usual = _usual(lines)
    split: dict[bool, list[float]] = {True: [], False: []}
    for line in lines:
        split[line.right].append(float(line.held[line.evidence].mean()))
    return {
        "accuracy": _ends([float(line.right) for line in lines]),
        "kept": _ends([float(line.held.mean()) for line in lines]),
        "kept_of_evidence": _ends([float(line.held[line.evidence].mean()) for line in lines]),
        "kept_of_idle": _ends(
            [float(line.held[line.idle].mean()) for line in lines if line.idle.any()]
        ),
        "difference": _ends(_differences(lines, usual)),
        "kept_of_evidence_where_right": _ends(split[True]),
        "kept_of_evidence_where_wrong": _ends(split[False]),
        "by_frame": np.round(np.mean([line.held for line in whole], axis=0), 4).tolist(),
        "around_evidence": _around(whole, usual),
    }


def _differences(lines: list[Seen], usual: dict[int, Any], family: str = "") -> list[float]:
    """Evidence minus idle frames at the same place, mean of each sample of `family`, or of all."""
    found = []
    for line in lines:
        over = (line.held - usual[len(line.held)])[line.evidence]
        over = over[np.isfinite(over)]
        if len(over) and family in ("", line.family):
            found.append(float(over.mean()))
    return found


def _usual(lines: list[Seen]) -> dict[int, Any]:
    """Mean part that is held of idle frames, by length of the video and place; NaN where none."""
    usual = {}
    for length in {len(line.held) for line in lines}:
        own = [line for line in lines if len(line.held) == length]
        held = np.stack([np.where(line.idle, line.held, np.nan) for line in own])
        count = np.isfinite(held).sum(0)
        usual[length] = np.where(count > 0, np.nansum(held, 0) / np.maximum(count, 1), np.nan)
    return usual


def _around(lines: list[Seen], usual: dict[int, Any]) -> list[float | None]:
    """Held part minus the usual one, from `REACH` frames before the evidence begins to after."""
    sums: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        first = int(np.argmax(line.evidence))
        for offset in range(-REACH, REACH + 1):
            if 0 <= first + offset < len(line.held):
                over = (line.held - usual[len(line.held)])[first + offset]
                if np.isfinite(over):
                    sums[offset].append(float(over))
    return [
        round(float(np.mean(sums[offset])), 4) if sums[offset] else None
        for offset in range(-REACH, REACH + 1)
    ]


def _ends(values: list[float]) -> dict[str, float] | None:
    found: Interval | None = mean_interval(values)
    if found is None:
        return None
    return {name: round(value, 4) for name, value in asdict(found).items()}


def words(found: dict[str, Any]) -> str:
    """The numbers as a table."""
    lines = [
        f"{found['model']}, NAMM {found['checkpoint']}, interval {found['interval']}, "
        f"{found['samples']} {found['split']} samples, seed {found['seed']}; the others hold as "
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


def draw(found: dict[str, Any], path: Path) -> None:
    """Held parts by frame, and around the evidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, own in found["policies"].items():
        wide = {"linewidth": 2.5 if name == "namm" else 1.2}
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
