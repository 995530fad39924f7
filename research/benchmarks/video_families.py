"""Does each family of video questions need a memory? What every policy leaves of it, side by side.

In `research/`:

    python benchmarks/video_families.py --samples 100
    python benchmarks/video_families.py --families reel overlay --checkpoint namm.safetensors

Full cache; no frames at all (what question and options give away); recency, random, H2O, L2 and the
NAMM at a part of the tokens seen, in every layer; the NAMM's heads share theirs. Answers go to a
JSON-lines file as they are made, and a run that was killed goes on from it. The table has Wilson's
95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from namm_mm import attach, policy
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.policies import Budget
from namm_mm.records import Inputs
from namm_mm.results.statistics import mean_interval
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.questions import COVERED

POLICIES = ("full", "no frames", "recency", "random", "h2o", "l2", "namm")


def main() -> None:
    """Answer, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket_video")
    parser.add_argument("--answer-by", default="auto", help="words for smollm2_video")
    parser.add_argument("--families", nargs="+", default=list(COVERED))
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--samples", type=int, default=100, help="of each family")
    parser.add_argument("--fraction", type=float, default=0.25, help="of the cache")
    parser.add_argument("--interval", type=int, default=64, help="tokens between two evictions")
    parser.add_argument("--checkpoint", default="evolved", help="the NAMM")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, default=Path("runs/video_families.jsonl"))
    parser.add_argument("--output", type=Path, help="Markdown; without it, only printed")
    args = parser.parse_args()
    torch.set_num_threads(1)

    adapter = LlavaVideoAdapter(model=args.model, device="cpu", answer_by=args.answer_by)
    adapter.load()
    run = {"model": args.model, "split": args.split, "seed": args.seed}
    run |= {"fraction": args.fraction, "interval": args.interval, "checkpoint": args.checkpoint}
    run["task"] = VideoQaTask(families=args.families).fingerprint()
    with torch.no_grad():  # tells weights of one name apart
        run["weights"] = f"{sum(p.double().abs().sum().item() for p in weights(adapter)):.6f}"
    found = read(args.answers, run)
    args.answers.parent.mkdir(parents=True, exist_ok=True)
    samples = VideoQaTask(families=args.families).samples(
        args.split, args.samples * len(args.families), args.seed
    )
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
    text = table([line for (sample, _), line in found.items() if sample in asked], args)
    print(text)
    if args.output:
        args.output.write_text(text, encoding="utf-8")


def weights(adapter: LlavaVideoAdapter) -> list[torch.Tensor]:
    """All parameters of the model."""
    return list(adapter.loaded.model.parameters())


def read(path: Path, run: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Answers of an earlier run under the same circumstances; a broken last line is left out."""
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
    adapter: LlavaVideoAdapter, inputs: Inputs, name: str, args: argparse.Namespace
) -> tuple[bool, float]:
    """Whether the answer is right, and which part of the tokens was kept at the end."""
    if name == "no frames":
        return blind(adapter, inputs), 0.0
    if name == "full":
        chosen = policy(name)
    elif name == "namm":
        size = Budget(fraction=args.fraction, pooled=True)
        chosen = policy(name, checkpoint=args.checkpoint, budget=size)
    else:
        chosen = policy(name, budget=Budget(fraction=args.fraction))
    with attach(adapter.backbone, chosen, interval=args.interval, storage="per_head") as memory:
        text = adapter.answer(inputs, memory).text
    return text == inputs.sample.answer, memory.usage().kept_fraction or 0.0


def blind(adapter: LlavaVideoAdapter, inputs: Inputs) -> bool:
    """Whether the model is right when the tokens of the video are left out."""
    ids = inputs.tensors["input_ids"]
    text = ids[:, ids[0] != adapter.loaded.video_token]
    letters = adapter.tokenizer.convert_tokens_to_ids(list("ABCD"))
    with torch.no_grad():
        logits = adapter.loaded.model(input_ids=text).logits[0, -1]
    sample = inputs.sample
    return sample.options[int(logits[letters].argmax())] == sample.answer


def table(lines: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The table in Markdown, with how it was made."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        cells[line["family"], line["policy"]].append(line)
        cells["all", line["policy"]].append(line)
    names = {p: f"{p} {args.fraction:.0%}" for p in ("recency", "random", "h2o", "l2", "namm")}
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
    body = [f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    made = (
        f"`python research/benchmarks/video_families.py --families {' '.join(args.families)} "
        f"--samples {args.samples} --interval {args.interval} --checkpoint {args.checkpoint}`: "
        f"model {args.model}, {args.split} split, seed {args.seed}. Accuracy with Wilson's 95 % "
        "interval; chance is 0.25. "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}."
    )
    return "\n".join(["# Families of video questions under every policy", "", *body, "", made, ""])


if __name__ == "__main__":
    main()
