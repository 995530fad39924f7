"""NAMMs that were evolved on the zoo, on models that they never saw, against unlearned rules.

    python research/benchmarks/transfer.py --runs FOLDER FOLDER --out research/results/transfer_zoo

On the left-out models of the zoo (fixed validation samples) and, with `--text N`, on N validation
prompts of `long_text` for SmolLM2: log-likelihood of the answers under the evictions minus that of
the full cache, in nats per token, losses clipped at 4. `h2o` has as many tokens as the NAMMs,
`h2o=bytes` as many bytes: what remembers fewer numbers of a token holds more tokens. Writes
OUT.jsonl, a line for each model, condition and policy; what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.evolution.prompts import Prompts, Tokenized
from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS
from namm_mm.policies.base import Policy
from namm_mm.policies.creating import create
from namm_mm.policies.namm import NammPolicy
from namm_mm.results.statistics import Interval, mean_interval, paired_difference
from namm_mm.tasks.long_text.task import LongTextTask
from research.zoo.evolution import FIXED, mean_vector, namm_for, validation
from research.zoo.judging import CLIP, Case, Conditions, case, under
from research.zoo.recipes import LEFT_OUT
from research.zoo.samples import Samples
from research.zoo.training import zoo_folder
from research.zoo.variants import blank, calibrated

RULES = ("h2o", "h2o_16", "attention_max", "recency", "random")
BYTEWISE = ("h2o", "h2o_16", "attention_max")  # also at equal bytes: what is above random at all
TEXT = (Conditions(64, 0.4), Conditions(64, 0.4, pooled=True))
CALIBRATION = 4  # training prompts on which a real model's statistics are measured
REFERENCE = "h2o"

Statistics = Callable[[str, int], Namm]
"""For a variant and an interval: a NAMM of zeros with the statistics of the model at hand."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A model, what is asked of it, and under which conditions."""

    name: str
    cases: Sequence[Case]
    conditions: Sequence[Conditions]
    statistics: Statistics


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="folders of evolutions")
    parser.add_argument("--bundled", nargs="*", default=["general"], help="bundled NAMMs")
    parser.add_argument("--text", type=int, default=0, help="validation prompts for SmolLM2")
    parser.add_argument("--words", type=int, default=200, help="words of such a prompt")
    parser.add_argument("--samples", type=int, default=48, help="samples of each zoo model")
    parser.add_argument("--out", type=Path, required=True, help="file without its ending")
    args = parser.parse_args()
    torch.set_num_threads(1)
    benches = [zoo(name, args.samples) for name in LEFT_OUT if zoo_folder(name).is_dir()]
    if args.text:
        benches.append(smollm2(args.text, args.words))
    path = args.out.with_suffix(".jsonl")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [json.loads(line) for line in lines]
    done = {(line["model"], line["condition"], line["policy"]) for line in found}
    for bench in benches:
        for name, condition, values in measure(bench, args.runs, args.bundled, done):
            line = {"model": bench.name, "condition": condition, "policy": name}
            found.append(line | {"nats": [round(value, 4) for value in values]})
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
    print(table(found))


def zoo(name: str, samples: int) -> Bench:
    """Return a left-out model of the zoo with its validation samples."""
    judge = validation(name, samples)
    return Bench(name, [judge], FIXED, lambda variant, interval: namm_for(variant, name, interval))


def smollm2(prompts: int, words: int) -> Bench:
    """Return SmolLM2 with validation prompts; its statistics are those of training prompts."""
    adapter = TextAdapter()
    adapter.load()
    task = LongTextTask(words=words)
    model: Any = adapter.backbone

    def drawn(split: str, count: int) -> list[Case]:
        made = Prompts(Tokenized(adapter), task.samples(split, count, 0)).all()
        return [_case(model, prompt.inputs.tensors["input_ids"], prompt.answer) for prompt in made]

    training = [judge.samples.tokens for judge in drawn("train", CALIBRATION)]
    shortest = min(tokens.shape[1] for tokens in training)
    rows = torch.cat([tokens[:, :shortest] for tokens in training])

    def statistics(variant: str, interval: int) -> Namm:
        return calibrated(blank(variant, interval, LAYOUTS["bam"].size), model, rows)

    return Bench("SmolLM2", drawn("validation", prompts), TEXT, statistics)


def _case(model: PreTrainedModel, asked: Tensor, answer: Sequence[int]) -> Case:
    tokens = torch.cat([asked, torch.tensor([list(answer)])], 1)
    answers = torch.zeros_like(tokens, dtype=torch.bool)
    answers[:, asked.shape[1] :] = True
    return case(model, Samples(tokens, answers, answers.float()))


def measure(
    bench: Bench, runs: Sequence[Path], bundled: Sequence[str], done: set[tuple[str, str, str]]
) -> Iterator[tuple[str, str, list[float]]]:
    """Yield the policy, the condition and the clipped differences for what is not done yet."""
    for how in bench.conditions:
        condition = f"{how.budget} every {how.interval}"
        policies = {**_rules(bench, how), **_namms(bench, runs, bundled, how)}
        for name, made in policies.items():
            if (bench.name, condition, name) not in done:
                values = [under(judge, made(), how) for judge in bench.cases]
                yield name, condition, torch.cat(values).clamp_min(-CLIP).tolist()


def _rules(bench: Bench, how: Conditions) -> Mapping[str, Callable[[], Policy]]:
    longer = {rule: _longer(bench, rule, how) for rule in BYTEWISE}
    alike = {rule: partial(create, rule, budget=how.budget) for rule in RULES}
    bytewise = {f"{r}=bytes": partial(create, r, budget=longer[r].budget) for r in BYTEWISE}
    return {**alike, **bytewise}


def _longer(bench: Bench, rule: str, how: Conditions) -> Conditions:
    """Return the fraction at which a rule holds as many bytes as a NAMM."""
    model = bench.cases[0].model
    config = model.config.to_dict()
    width = int(config.get("hidden_size") or config["n_embd"])
    heads = int(config.get("num_attention_heads") or config["n_head"])
    size = torch.finfo(model.dtype).bits // 8
    plain = 2 * int(config.get("head_dim") or width // heads) * size + 4
    factor = (plain + create("namm").bytes_per_token) / (plain + create(rule).bytes_per_token)
    return replace(how, fraction=min(1.0, round(how.fraction * factor, 4)))


def _namms(
    bench: Bench, runs: Sequence[Path], bundled: Sequence[str], how: Conditions
) -> Mapping[str, Callable[[], Policy]]:
    evolved = {folder.name: partial(_evolved, bench, folder, how) for folder in runs}
    named = {n: partial(create, "namm", checkpoint=n, budget=how.budget) for n in bundled}
    return {**evolved, **named}


def _evolved(bench: Bench, folder: Path, how: Conditions) -> Policy:
    settings, vector = mean_vector(folder)
    namm = bench.statistics(settings.variant, how.interval)
    return NammPolicy(replace(namm, parameters=vector), budget=how.budget)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: means, and paired differences from H2O with 95 % intervals."""
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    for line in found:
        numbered = {str(at): value for at, value in enumerate(line["nats"])}
        values[line["model"], line["condition"], line["policy"]] = numbered
    rows = [
        f"| model | condition | policy | n | nats to full | against {REFERENCE} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (model, condition, policy), nats in values.items():
        mean = mean_interval(list(nats.values()))
        gap = paired_difference(nats, values[model, condition, REFERENCE])
        own = "" if policy == REFERENCE else _in_words(gap, "+")
        rows.append(
            f"| {model} | {condition} | {policy} | {len(nats)} | {_in_words(mean, '')} | {own} |"
        )
    return "\n".join(rows)


def _in_words(found: Interval | None, sign: str) -> str:
    if found is None:
        return ""
    return f"{found.mean:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
