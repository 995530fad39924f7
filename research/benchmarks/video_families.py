"""Accuracy of each family of questions about videos, pictures or speech, under every policy.

    python research/benchmarks/video_families.py --samples 100
    python research/benchmarks/video_families.py --task image_qa --model smollm2_video
    python research/benchmarks/video_families.py --task speech_qa --words known --model FOLDER
    python research/benchmarks/video_families.py --families reel overlay \
        --checkpoint namm.safetensors

The columns are the full cache; no frames, pictures or sounds at all, which shows what question and
options tell; and recency, random, H2O, L2 and the NAMM at a fraction of the tokens seen, in every
layer. The heads of the NAMM share the budget of their layer. Answers are written to a JSON-lines
file as they come, and a killed run continues from it. The table has Wilson's 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from namm_mm import attach, policy
from namm_mm.adapters.common.choices import LETTERS
from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.adapters.video.album import AlbumAdapter
from namm_mm.policies import Budget
from namm_mm.records import Inputs
from namm_mm.results.statistics import mean_interval
from namm_mm.tasks.image_qa import ImageQaTask
from namm_mm.tasks.question_task import QuestionTask
from namm_mm.tasks.speech_qa import SpeechQaTask
from namm_mm.tasks.video_qa import VideoQaTask
from research.benchmarks.common import NAMM, machine, markdown, options, parse, write

MediaAdapter = LlavaVideoAdapter | AlbumAdapter | SpeechAdapter

TASKS: dict[str, tuple[type[MediaAdapter], type[QuestionTask]]] = {
    "video_qa": (LlavaVideoAdapter, VideoQaTask),
    "image_qa": (AlbumAdapter, ImageQaTask),
    "speech_qa": (SpeechAdapter, SpeechQaTask),
}
"""The adapter and the task of each kind of question."""

COVERED = "covered"
"""Stands for the families that the bundled model has learned."""

POLICIES = ("full", "no frames", "recency", "random", "h2o_16", "l2_all", NAMM)


def main() -> None:
    """Answer, and write the table."""
    parser = options(
        __doc__,
        task="video_qa",
        model="pocket_video",
        answer_by="auto",
        families=(COVERED,),
        policies=POLICIES,
        samples=100,
        fraction=0.25,
        interval=64,
        checkpoint="evolved",
        split="test",
        seed=0,
        words="apart",
        answers=Path("runs/video_families.jsonl"),
        output=None,
    )
    args = parse(parser)
    if args.task not in TASKS:
        parser.error(f"--task is one of {', '.join(TASKS)}")
    adapter_class, task_class = TASKS[args.task]
    if args.families == [COVERED]:
        args.families = list(task_class.covered)
    adapter = adapter_class(model=args.model, device="cpu", answer_by=args.answer_by)
    adapter.load()
    said = {"words": args.words} if task_class is SpeechQaTask else {}
    task = task_class(families=args.families, **said)
    samples = task.samples(args.split, args.samples * len(args.families), args.seed)
    run = conditions(adapter, task, args)
    found = read(args.answers, run)
    args.answers.parent.mkdir(parents=True, exist_ok=True)
    with args.answers.open("a", encoding="utf-8") as file:
        for sample in samples:
            missing = [p for p in args.policies if (sample.id, p) not in found]
            if not missing:
                continue
            inputs = adapter.prepare(sample)
            for name in missing:
                right, kept = answer(adapter, inputs, name, args)
                line = {"sample": sample.id, "family": sample.family, "policy": name}
                line |= {"right": right, "kept": round(kept, 4)}
                found[sample.id, name] = line
                file.write(json.dumps({**line, "run": run}) + "\n")
                file.flush()
    asked = {sample.id for sample in samples}
    write(
        table([line for (sample, _), line in found.items() if sample in asked], args), args.output
    )


def conditions(
    adapter: MediaAdapter, task: QuestionTask, args: argparse.Namespace
) -> dict[str, Any]:
    """Return what the answers of a run depend on."""
    names = ("model", "split", "seed", "fraction", "interval", "checkpoint")
    parameters: Any = adapter.loaded.model.parameters()
    with torch.no_grad():  # separates weights with the same name
        weights = f"{sum(p.double().abs().sum().item() for p in parameters):.6f}"
    chosen = {name: getattr(args, name) for name in names}
    return {**chosen, "task": task.fingerprint(), "weights": weights}


def read(path: Path, run: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the answers of an earlier run under the same conditions."""
    found = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line.pop("run") == run:
            found[line["sample"], line["policy"]] = line
    return found


def answer(
    adapter: MediaAdapter, inputs: Inputs, name: str, args: argparse.Namespace
) -> tuple[bool, float]:
    """Return whether the answer is right, and the fraction of the tokens kept at the end."""
    if name == "no frames":
        return blind(adapter, inputs), 0.0
    if name == "full":
        chosen = policy(name)
    elif name == NAMM:
        size = Budget(fraction=args.fraction, pooled=True)
        chosen = policy(name, checkpoint=args.checkpoint, budget=size)
    else:
        chosen = policy(name, budget=Budget(fraction=args.fraction))
    with attach(adapter.backbone, chosen, interval=args.interval, storage="per_head") as memory:
        text = adapter.answer(inputs, memory).text
    return text == inputs.sample.answer, memory.usage().kept_fraction or 0.0


def blind(adapter: MediaAdapter, inputs: Inputs) -> bool:
    """Return whether the model is right without the tokens of what it sees."""
    ids = inputs.tensors["input_ids"]
    text = ids[:, ids[0] != adapter.loaded.placeholder_token]
    sample = inputs.sample
    texts = LETTERS[: len(sample.options)] if adapter.lists_options else sample.options
    compared = adapter.loaded.first_tokens(adapter.prompt(sample), texts)
    with torch.no_grad():
        logits = adapter.loaded.model(input_ids=text).logits[0, -1]
    return sample.options[int(logits[compared].argmax())] == sample.answer


def table(lines: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Return the table in Markdown, with how it was made."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        cells[line["family"], line["policy"]].append(line)
        cells["all", line["policy"]].append(line)
    names = {p: f"{p} {args.fraction:.0%}" for p in ("recency", "random", "h2o_16", "l2_all", NAMM)}
    head = ["family", "n", *(names.get(p, p) for p in args.policies)]
    rows = []
    for family in [*args.families, "all"]:
        row = [family, str(len(cells[family, args.policies[0]]))]
        for name in args.policies:
            score = mean_interval([float(line["right"]) for line in cells[family, name]])
            if score is None:
                row.append("-")
                continue
            text = f"{score.mean:.2f} [{score.low:.2f}, {score.high:.2f}]"
            row.append(text)
        rows.append(row)
    made = (
        f"`python research/benchmarks/video_families.py --task {args.task} --model {args.model} "
        f"--families {' '.join(args.families)} "
        f"{f'--words {args.words} ' if args.task == 'speech_qa' else ''}"
        f"--samples {args.samples} --interval {args.interval} --checkpoint {args.checkpoint}`: "
        f"{args.split} split, seed {args.seed}. Accuracy with Wilson's 95 % "
        "interval; chance is 0.25. "
        f"{machine()}."
    )
    return "\n".join(
        [f"# Families of {args.task} under every policy", "", markdown(head, rows), "", made, ""]
    )


if __name__ == "__main__":
    main()
