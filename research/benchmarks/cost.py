"""What policies cost against the length of the prompt: CPU time of a prompt and of a new token.

    python research/benchmarks/cost.py --lengths 2048 4096 8192 --rounds 3
    python research/benchmarks/cost.py --shape smollm2 --lengths 4096
    python research/benchmarks/cost.py --show

Models have random weights. All rows alternate in one process of one thread, and each time is
divided by that of transformers' SDPA in the same round; medians of these ratios are shown. Adds a
line for each row and round to OUT.jsonl; `--show` writes OUT.md and OUT.png from all of them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from namm_mm.memory import attach
from namm_mm.namm import compiled
from namm_mm.policies import Policy, create
from namm_mm.runs.provenance import processor
from research.benchmarks.common import options

PLAIN = "transformers, SDPA"

SHAPES: dict[str, Mapping[str, int]] = {
    "small": {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "smollm2": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}

Line = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One way to hold the cache; no policy is transformers' own."""

    name: str
    policy: Policy | None = None
    interval: int = 512
    storage: str = "shared"
    protocol: str = "streaming"
    part: float = 1.0  # of the prompt that is read


def rows(length: int, budget: int) -> list[Row]:
    """Return all rows for a prompt of `length`."""
    tokens, eighth = f"tokens:{budget}", "pool:0.125"
    made = [Row(PLAIN), Row(f"{PLAIN}, an eighth of the prompt", part=1 / 8)]
    made += [Row("full", create("full"))]
    made += [Row(name, create(name, budget=tokens)) for name in ("recency", "h2o", "snapkv")]
    made += [
        Row("namm", create("namm", budget=tokens)),
        Row("namm, float32 state", create("namm", budget=tokens, state="float32")),
        Row("namm, half", create("namm", budget=f"tokens:{length // 2}")),
        Row("namm, all", create("namm", budget=f"tokens:{length}")),
        Row("namm, pool:1/8", create("namm", budget=eighth), storage="per_head"),
        Row("h2o, pool:1/8", create("h2o", budget=eighth), storage="per_head"),
        Row(
            "namm, prune_after_prefill",
            create("namm", budget=tokens),
            protocol="prune_after_prefill",
        ),
        Row("probed(namm), 0.4", create("probed", budget=0.4), interval=128, storage="per_head"),
        Row("probed(h2o), 0.4", create("probed", over="h2o", budget=0.4), storage="per_head"),
    ]
    return made


def main() -> None:
    """Measure, or show what was measured."""
    parser = options(
        __doc__,
        shape="small",
        lengths=(4096,),
        new=64,
        budget=512,
        rounds=3,
        only=("",),
        show=False,
        out="research/results/cost",
    )
    given = parser.parse_args()
    path = Path(f"{given.out}.jsonl")
    if given.show:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        text = in_words(lines)
        Path(f"{given.out}.md").write_text(text, encoding="utf-8")
        draw(lines, Path(f"{given.out}.png"))
        print(text)
        return
    for line in run(given):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(line["row"], line["length"], line["prefill"], line["token"], flush=True)


def run(given: Any) -> Iterator[Line]:
    """Yield a line for each row, length and round."""
    torch.set_num_threads(1)
    model = random_llama(given.shape, max(given.lengths) + given.new)
    draw_ids = torch.Generator().manual_seed(0)
    tokens = torch.randint(4096, (1, max(given.lengths)), generator=draw_ids)
    told = {"processor": processor(), "torch": torch.__version__, "shape": given.shape}
    if compiled.is_found():
        told["shape"] += ", compiled"
    for length in given.lengths:
        every = rows(length, given.budget)
        chosen = [
            row for row in every if row.name == PLAIN or row.name.startswith(tuple(given.only))
        ]
        measure(chosen[0], model, tokens[:, :256], 2)  # the first call is slower
        for number in range(given.rounds):
            for row in chosen:
                found = measure(row, model, tokens[:, : round(length * row.part)], given.new)
                yield {**told, "length": length, "row": row.name, "round": number, **found}


def random_llama(shape: str, positions: int) -> Any:
    """Return a model of random weights, wide enough that attention is uneven."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],  # type: ignore[arg-type]
        vocab_size=4096,
        max_position_embeddings=positions,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config)
    return model.eval()


def measure(row: Row, model: Any, tokens: torch.Tensor, new: int) -> Line:
    """Read `tokens` and generate `new` ones: CPU seconds, and MiB of the cache."""
    door: Any = nullcontext()
    if row.policy is not None:
        door = attach(
            model, row.policy, interval=row.interval, storage=row.storage, protocol=row.protocol
        )
    with torch.no_grad(), door as memory:
        cache: Any = DynamicCache() if memory is None else memory.cache
        if memory is not None:
            memory.expect_prompt(tokens.shape[1])
            cache = memory.cache
        start = time.process_time()
        token = model(tokens, past_key_values=cache, logits_to_keep=1).logits.argmax(-1)
        prefill, start = time.process_time() - start, time.process_time()
        for _ in range(new):
            token = model(token, past_key_values=cache).logits.argmax(-1)
        spent = (time.process_time() - start) / new
        if memory is None:
            held = [part for layer in cache.layers for part in (layer.keys, layer.values)]
            live = allocated = sum(part.untyped_storage().nbytes() for part in held)
        else:
            use = memory.usage()
            live, allocated = use.live_final, use.bytes_final
    sizes = {"live_mib": round(live / 2**20, 2), "allocated_mib": round(allocated / 2**20, 2)}
    return {"prefill": round(prefill, 3), "token": round(spent, 5), **sizes}


def ratios(lines: Sequence[Line], what: str) -> dict[tuple[str, int], float]:
    """Median over rounds of a time divided by that of plain attention in the same round."""
    plain: dict[tuple[int, int, str], float] = {}
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in lines:  # the plain row comes first in each round
        key = (line["length"], line["round"], "")
        if line["row"] == PLAIN:
            plain[key] = line[what]
        found[line["row"], line["length"]].append(line[what] / plain[key])
    return {key: statistics.median(values) for key, values in found.items()}


def in_words(lines: Sequence[Line]) -> str:
    """Return the Markdown tables, one for each processor and shape of a model."""
    out = ["# What policies cost", "", "Made by `python research/benchmarks/cost.py --show`."]
    out += ["Prefill / decode, times that of transformers' SDPA on the full cache; medians.", ""]
    for (name, shape), own in _groups(lines).items():
        prefill, token = ratios(own, "prefill"), ratios(own, "token")
        lengths = sorted({line["length"] for line in own})
        out += [f"## {name}, {shape}", "", "| cache | " + " | ".join(map(str, lengths)) + " |"]
        out += ["| --- " * (len(lengths) + 1) + "|"]
        for row in dict.fromkeys(line["row"] for line in own):
            cells = [
                f"{prefill[row, n]:.2f} / {token[row, n]:.2f}" if (row, n) in token else ""
                for n in lengths
            ]
            out.append(f"| {row} | " + " | ".join(cells) + " |")
        plain = [
            [line["prefill"] for line in own if line["row"] == PLAIN and line["length"] == n]
            for n in lengths
        ]
        rounds = ", ".join(str(len(found)) for found in plain)
        spent = ", ".join(f"{statistics.median(found):.2f}" for found in plain)
        out += ["", f"Rounds: {rounds}. Prefill of SDPA, CPU s: {spent}", ""]
    return "\n".join(out)


def draw(lines: Sequence[Line], file: Path) -> None:
    """Draw the CPU time of a prompt and of a token against the length, for each policy."""
    groups = {key: own for key, own in _groups(lines).items() if key[1] == "small"}
    figure = Figure(figsize=(11, 6 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 2, squeeze=False)
    for place, ((name, _), own) in zip(axes, groups.items(), strict=True):
        for axis, what, unit in zip(place, ("prefill", "token"), ("s", "ms"), strict=True):
            shown = dict.fromkeys(line["row"] for line in own if "eighth" not in line["row"])
            for number, row in enumerate(shown):
                lengths, spent = _medians(own, row, what)
                scale = 1.0 if unit == "s" else 1e3
                axis.plot(
                    lengths,
                    [scale * s for s in spent],
                    f"C{number % 7}{'o-' if number < 7 else 's--'}",
                    label=row,
                )
            axis.set(xlabel="prompt, tokens", ylabel=f"{what}, CPU {unit}", title=name)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _medians(lines: Sequence[Line], row: str, what: str) -> tuple[list[int], list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        if line["row"] == row:
            found[line["length"]].append(line[what])
    lengths = sorted(found)
    return lengths, [statistics.median(found[n]) for n in lengths]


def _groups(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    groups: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["processor"], line["shape"]].append(line)
    return groups


if __name__ == "__main__":
    main()
