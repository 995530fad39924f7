"""Cost of every policy: time of prefill and decode, and bytes of the cache.

A small random Llama (8 layers, 256 wide, 4 query heads on 2 KV heads) reads 4096 tokens and
generates 64. All rows alternate in one run, `--rounds` times; medians are printed. Random weights
tell nothing about quality.

    python research/benchmarks/prefill_decode.py --output research/results/prefill_decode.md
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from namm_mm.memory import attach, observer
from namm_mm.policies import Budget, Policy, create
from namm_mm.runs.provenance import device_name


@dataclass
class Row:
    """One configuration and the times taken so far, in seconds."""

    name: str
    policy: Policy | None
    storage: str = "shared"
    implementation: str = "sdpa"
    first: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)
    final_bytes: int = 0
    peak_bytes: int = 0


def small_llama(device: str, dtype: torch.dtype) -> Any:
    """Return the model of the benchmark; the width of its weights makes attention uneven."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config)
    return model.eval().to(device=device, dtype=dtype)


def measure(row: Row, model: Any, tokens: torch.Tensor, new: int, interval: int) -> None:
    """Prefill and decode once; append the times to `row`."""
    model.set_attn_implementation(row.implementation)
    door = (
        nullcontext()
        if row.policy is None
        else attach(model, row.policy, interval=interval, storage=row.storage)
    )
    with torch.inference_mode(), door as memory:
        cache: Any = DynamicCache() if memory is None else memory.cache
        start = _now(tokens)
        logits = model(tokens, past_key_values=cache, logits_to_keep=1).logits
        row.first.append(_now(tokens) - start)
        token = logits[:, -1:].argmax(-1)
        start = _now(tokens)
        for _ in range(new):
            token = model(token, past_key_values=cache).logits[:, -1:].argmax(-1)
        row.token.append((_now(tokens) - start) / new)
        if memory is None:
            held = (t for layer in cache.layers for t in (layer.keys, layer.values))
            row.final_bytes = row.peak_bytes = sum(t.untyped_storage().nbytes() for t in held)
        else:
            row.final_bytes, row.peak_bytes = memory.usage().bytes_final, memory.usage().bytes_peak


def _now(like: torch.Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()  # one thread: others on the machine do not count


def rows(budget: int) -> list[Row]:
    """Return all configurations: plain transformers first."""
    size = Budget(tokens=budget)
    named: list[tuple[str, Callable[[], Policy]]] = [
        (name, lambda name=name: create(name, budget=size))  # type: ignore[misc]
        for name in ("recency", "random", "l2", "h2o", "namm")
    ]
    made = [
        Row("transformers, SDPA", None),
        Row("transformers, eager", None, implementation="eager"),
    ]
    made += [Row("full", create("full"))]
    made += [Row(name, build()) for name, build in named]
    made += [Row("namm, per head", create("namm", budget=size), storage="per_head")]
    return made


def table(measured: list[Row], heading: str) -> str:
    """Return the results as Markdown; ratios are to the first row."""
    base = measured[0]
    lines = [heading, ""]
    lines += [
        "| cache | first token, s | ratio | per token, ms | ratio | MiB at end | MiB at peak |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in measured:
        first, token = statistics.median(row.first), statistics.median(row.token)
        lines.append(
            f"| {row.name} | {first:.2f} | {first / statistics.median(base.first):.2f} "
            f"| {token * 1e3:.1f} | {token / statistics.median(base.token):.2f} "
            f"| {row.final_bytes / 2**20:.2f} | {row.peak_bytes / 2**20:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=4096, help="tokens read")
    parser.add_argument("--new", type=int, default=64, help="tokens generated")
    parser.add_argument("--interval", type=int, default=512, help="tokens between evictions")
    parser.add_argument("--budget", type=int, default=512, help="tokens kept per head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tile", type=int, default=observer.TILE, help="rows of weights at a time")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    observer.TILE = options.tile
    model = small_llama(options.device, getattr(torch, options.dtype))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4096, (1, options.prompt), generator=generator).to(options.device)
    measured = rows(options.budget)
    measure(Row("warm-up", None), model, tokens[:, :512], 2, options.interval)
    for number in range(options.rounds):
        for row in measured:
            measure(row, model, tokens, options.new, options.interval)
            print(f"round {number + 1}: {row.name}: {row.first[-1]:.2f} s", flush=True)
    where = device_name(options.device)
    clock = "wall time" if options.device == "cuda" else "CPU time of one thread"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    text = table(
        measured,
        f"Prompt {options.prompt}, {options.new} new tokens, budget {options.budget} a head, "
        f"interval {options.interval}, {options.dtype}; median of {options.rounds} rounds, "
        f"{clock}. {where}; torch {torch.__version__}, transformers {transformers.__version__}. "
        f"Whole process at most {peak:.0f} MiB (the eager row).",
    )
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
