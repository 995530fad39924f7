"""Speed and memory of models of 7B with random weights: one row for each model, prompt and cache.

    python research/benchmarks/gpu_speed.py --models llama llava --out research/results/gpu/speed

A row is appended to OUT.jsonl as soon as it is measured; rows that are there are not run again, and
after ``--minutes`` no row is begun. OUT.md is the table of all rows. The roofline is the time in
which the measured rates of this device would make the products of a prompt, or read the weights and
the cache of a token. ``--tiny`` runs the same on a CPU with tiny sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from namm_mm import attach
from namm_mm.kernels import choosing
from namm_mm.policies import Budget, create
from research.benchmarks.common import RESULTS, markdown

CACHES = {
    "transformers": ("", "", "triton"),
    "full": ("full", "shared", "triton"),
    "h2o": ("h2o", "shared", "triton"),
    "snapkv": ("snapkv", "shared", "triton"),
    "namm, torch": ("namm", "shared", "torch"),
    "namm, triton": ("namm", "shared", "triton"),
    "namm, triton, per head": ("namm", "per_head", "triton"),
}
"""Policy, storage, and the kernels that are asked for."""

FRAME = 196  # tokens


@dataclass(frozen=True)
class Row:
    """What was measured; times in seconds, memory in bytes; `vision` is the vision tower's time."""

    model: str
    prompt: int
    batch: int
    cache: str
    prefill: float = 0.0
    prefill_roofline: float = 0.0
    token: float = 0.0
    token_roofline: float = 0.0
    vision: float = 0.0
    peak: int = 0
    held: int = 0
    error: str = ""

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What the row is about."""
        return self.model, self.prompt, self.batch, self.cache


def sizes(tiny: bool) -> dict[str, Any]:
    """Configurations of both language models, and of the vision tower."""
    llama: dict[str, Any] = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
    }
    llama |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000}
    qwen: dict[str, Any] = {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
    }
    qwen |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
    tower: dict[str, Any] = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
    }
    tower |= {"num_attention_heads": 16, "image_size": 384, "patch_size": 14}
    if tiny:
        small: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        small |= {"num_attention_heads": 4}
        more: dict[str, Any] = {"num_key_value_heads": 2, "vocab_size": 128}
        llama, qwen = {**small, **more}, {**small, **more}
        tower = {**small, "image_size": 28, "patch_size": 14}
    places: dict[str, Any] = {
        "max_position_embeddings": 65536,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return {
        "llama": LlamaConfig(**llama, **places),
        "llava": Qwen2Config(**qwen, **places),
        "tower": SiglipVisionConfig(**tower),
    }


def built(config: Any, device: str, dtype: torch.dtype) -> Any:
    """Return a model with random weights, made on the device."""
    kinds = {LlamaConfig: LlamaForCausalLM, Qwen2Config: Qwen2ForCausalLM}
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return kinds.get(type(config), SiglipVisionModel)(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def now(device: str) -> float:
    """Seconds, after all that was asked of the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rates(device: str, dtype: torch.dtype, tiny: bool) -> tuple[float, float]:
    """Return the measured operations and bytes of this device in a second."""
    size = 256 if tiny else 8192
    one, other = torch.randn(2, size, size, device=device).to(dtype).unbind(0)
    found = []
    works: list[tuple[Callable[[], Any], float]] = [
        (lambda: one @ other, 2.0 * size**3),
        (lambda: one.clone(), 2.0 * one.nbytes),
    ]
    for function, work in works:
        function()
        start = now(device)
        for _ in range(10):
            function()
        found.append(10 * work / (now(device) - start))
    return found[0], found[1]


def rooflines(
    model: Any, prompt: int, batch: int, kept: int, speed: tuple[float, float]
) -> tuple[float, float]:
    """Least times of a prompt and of a token, at the measured rates.

    Attention is counted over what a cache of `kept` tokens and an interval holds.
    """
    config = model.config
    weights = sum(part.numel() for part in model.parameters())
    head = config.hidden_size // config.num_attention_heads
    seen = prompt / 2 if kept >= prompt else min(prompt / 2, kept + 512)
    attention = 4.0 * config.num_hidden_layers * config.hidden_size * seen * prompt
    size = next(model.parameters()).element_size()
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head * size
    products = batch * (2.0 * weights * prompt + attention)
    return products / speed[0], (weights * size + batch * kept * cache) / speed[1]


def measured(
    model: Any, cache: str, prompt: int, batch: int, new: int, device: str
) -> dict[str, Any]:
    """Run a prompt and `new` tokens; return times and memory."""
    policy, storage, kernels = CACHES[cache]
    budget = {} if policy == "full" else {"budget": Budget(tokens=max(16, prompt // 8))}
    interval = min(512, max(16, prompt // 32 * 16))
    tokens = torch.randint(model.config.vocab_size, (batch, prompt)).to(device)
    choosing._triton.cache_clear()
    environment = mock.patch.dict(os.environ, {choosing.VARIABLE: kernels})
    how: Any = {"interval": interval, "storage": storage}
    door = attach(model, create(policy, **budget), **how) if policy else nullcontext()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with environment, torch.inference_mode(), door as memory:
        held: Any = DynamicCache() if memory is None else memory.cache
        start = now(device)
        logits = model(tokens, past_key_values=held, logits_to_keep=1).logits
        prefill = now(device) - start
        token = logits[:, -1:].argmax(-1)
        start = now(device)
        for _ in range(new):
            token = model(token, past_key_values=held).logits[:, -1:].argmax(-1)
        each = (now(device) - start) / new
        if memory is None:
            parts = [part for layer in held.layers for part in (layer.keys, layer.values)]
            size = sum(part.nbytes for part in parts)
        else:
            size = sum(memory.usage(row).bytes_final for row in range(batch))
    choosing._triton.cache_clear()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"prefill": prefill, "token": each, "peak": peak, "held": size}


def seen_frames(tower: Any, prompt: int, device: str) -> float:
    """Time of the vision tower over the frames of a prompt, 16 at a time."""
    frames, size = max(1, prompt // FRAME), tower.config.image_size
    dtype = next(tower.parameters()).dtype
    start = now(device)
    with torch.inference_mode():
        for first in range(0, frames, 16):
            count = min(16, frames - first)
            tower(torch.zeros(count, 3, size, size, device=device, dtype=dtype))
    return now(device) - start


def cases(args: argparse.Namespace, done: set[tuple[str, int, int, str]]) -> Iterator[Row]:
    """Yield the rows that are missing, one model after the other."""
    dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
    speed = rates(args.device, dtype, args.tiny)
    for name in args.models:
        planned = [
            Row(name, prompt, batch, cache)
            for prompt in args.prompts
            for batch in args.batches
            for cache in args.caches
        ]
        planned = [row for row in planned if row.key not in done]
        if not planned:
            continue
        configs = sizes(args.tiny)
        model = built(configs[name], args.device, dtype)
        tower = built(configs["tower"], args.device, dtype) if name == "llava" else None
        for cache in dict.fromkeys(row.cache for row in planned):  # kernels compile, tables move
            measured(model, cache, min(args.prompts), 1, 1, args.device)
        for row in planned:
            kept = row.prompt if row.cache in ("transformers", "full") else row.prompt // 8
            least = rooflines(model, row.prompt, row.batch, kept, speed)
            shown: dict[str, Any] = {"prefill_roofline": least[0], "token_roofline": least[1]}
            if tower:
                shown["vision"] = seen_frames(tower, row.prompt, args.device) * row.batch
            try:
                run = (row.cache, row.prompt, row.batch, args.new, args.device)
                yield replace(row, **shown, **measured(model, *run))
            except torch.cuda.OutOfMemoryError as error:
                yield replace(row, error=str(error).split(".")[0])
        del model, tower


def read(path: Path) -> list[Row]:
    """Return the rows that were measured."""
    if not path.exists():
        return []
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    head = ["model", "prompt", "batch", "cache", "prefill, s", "roofline", "token, ms", "roofline"]
    head += ["vision, s", "peak, GiB", "cache, MiB"]
    lines = []
    for row in rows:
        numbers = [
            *(f"{row.prefill:.3f}", f"{row.prefill_roofline:.3f}"),
            *(f"{row.token * 1e3:.2f}", f"{row.token_roofline * 1e3:.2f}", f"{row.vision:.3f}"),
            *(f"{row.peak / 2**30:.1f}", f"{row.held / 2**20:.2f}"),
        ]
        if row.error:
            numbers = [row.error, *[""] * 6]
        lines.append([row.model, str(row.prompt), str(row.batch), row.cache, *numbers])
    return markdown(head, lines) + "\n"


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["llama", "llava"])
    parser.add_argument("--prompts", type=int, nargs="+", default=[8192, 16384, 32768])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--caches", nargs="+", choices=CACHES, default=list(CACHES))
    parser.add_argument("--new", type=int, default=64, help="tokens generated")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu" / "speed")
    args = parser.parse_args()
    end, path = time.monotonic() + 60 * args.minutes, args.out.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in cases(args, {row.key for row in read(path)}):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(row, flush=True)
        if time.monotonic() > end:
            break
    args.out.with_suffix(".md").write_text(table(read(path)), encoding="utf-8")


if __name__ == "__main__":
    main()
