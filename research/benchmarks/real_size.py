"""A model of real size on this processor: time, peak memory and bytes of the cache, and the plan.

    python research/benchmarks/real_size.py --out research/results/real_size.md
    python research/benchmarks/real_size.py --dtype float32    where a processor has no bfloat16

Builds the architecture of LLaVA-OneVision-0.5B with random weights, lets its tower look at a few
frames, and its language model read 32 of them, of 196 tokens each, under every policy.
Peak memory is that of the whole process while the language model runs; beside it stands what
`--plan` expects of the same model and policy. `--tiny` is a model of the same kind for a test.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.utils.generic import ModelOutput

from namm_mm.experiment.settings import PolicySettings
from namm_mm.memory import attach
from namm_mm.models.known import ModelFacts
from namm_mm.plan import memory as planned
from namm_mm.plan.configuration import read_facts
from namm_mm.policies import create
from namm_mm.runs.provenance import processor
from research.benchmarks.common import options

POLICIES = ("full", "h2o", "namm")
MIB = 2**20
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Found:
    """What one policy took; times in CPU seconds, sizes in MiB."""

    policy: str
    prefill: float
    token: float
    peak: float
    planned: float
    live: float
    allocated: float


def configuration(*, tiny: bool) -> Any:
    """Return that of LLaVA-OneVision-0.5B, or of a tiny model of its kind."""
    vision: dict[str, Any] = {
        "image_size": 384,
        "patch_size": 14,
        "hidden_size": 1152,
        "intermediate_size": 4304,
    }
    vision |= {"num_hidden_layers": 26, "num_attention_heads": 16}
    text: dict[str, Any] = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    text |= {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 152_000}
    text |= {"max_position_embeddings": 32_768}
    if tiny:
        vision |= {"image_size": 32, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64}
        vision |= {"num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 256}
    return transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(vision_use_head=False, **vision),
        text_config=transformers.Qwen2Config(**text, tie_word_embeddings=True),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_token_index=8,
        video_token_index=9,
        tie_word_embeddings=True,
    )


def main() -> None:
    """Measure, print the table and write it."""
    parser = options(
        __doc__,
        frames=32,
        looked=1,
        fraction=0.25,
        interval=512,
        new=8,
        threads=1,
        tiny=False,
        dtype="bfloat16",
        out="",
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    text = run(given)
    print(text)
    if given.out:
        Path(given.out).write_text(text + "\n", encoding="utf-8")


def run(given: Any) -> str:
    """Return the table."""
    config = configuration(tiny=given.tiny)
    facts = _facts(config)
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, given.dtype))
    try:
        model: Any = transformers.LlavaOnevisionForConditionalGeneration(config)
        model.eval()
    finally:
        torch.set_default_dtype(torch.float32)
    start = time.process_time()
    seen = look(model, given.frames, given.looked)
    tower = (time.process_time() - start) / given.looked
    found = [measure(model, seen, name, facts, given) for name in POLICIES]
    return in_words(found, facts, given, seen.shape[1], tower)


def _facts(config: Any) -> ModelFacts:
    with TemporaryDirectory() as folder:
        config.architectures = ["LlavaOnevisionForConditionalGeneration"]
        config.save_pretrained(folder)
        side = config.vision_config.image_size
        frames = {"size": {"height": side, "width": side}, "image_mean": [0.5] * 3}
        text = json.dumps({**frames, "image_std": [0.5] * 3})
        (Path(folder) / "preprocessor_config.json").write_text(text, encoding="utf-8")
        return read_facts(Path(folder))


def look(model: Any, frames: int, looked: int) -> Tensor:
    """Embeddings (1, token, width) of a prompt of `looked` random frames in turn, between words."""
    side = model.config.vision_config.image_size
    with torch.no_grad():
        parts = []
        for _ in range(looked):  # one after the other: the tower is not what is measured
            clip = torch.randn(1, 1, 3, side, side).to(model.dtype)
            found = model.get_video_features(
                clip,
                vision_feature_layer=model.config.vision_feature_layer,
                vision_feature_select_strategy=model.config.vision_feature_select_strategy,
            )
            parts.append(_tensor(found).reshape(1, -1, model.config.text_config.hidden_size))
        words = model.get_input_embeddings()(torch.arange(10, 26)[None])
        return torch.cat([words, *(parts[i % looked] for i in range(frames)), words], dim=1)


def _tensor(found: Any) -> Tensor:
    features: Any = found["pooler_output"] if isinstance(found, ModelOutput) else found
    return torch.cat(list(features)) if isinstance(features, (list, tuple)) else features


def measure(model: Any, seen: Tensor, name: str, facts: ModelFacts, given: Any) -> Found:
    """Read the prompt and say `new` tokens under one policy."""
    budget = "full" if name == "full" else f"fraction:{given.fraction}"
    policy = create(name) if name == "full" else create(name, budget=budget)
    _reset_peak()
    with (
        torch.no_grad(),
        attach(model, policy, interval=given.interval, storage="shared") as memory,
    ):
        start = time.process_time()
        out = model(inputs_embeds=seen, use_cache=True, logits_to_keep=1)
        prefill, start = time.process_time() - start, time.process_time()
        token = out.logits[:, -1:].argmax(-1)
        for _ in range(given.new):
            called = {"input_ids": token, "past_key_values": memory.cache}
            token = model(**called, use_cache=True).logits[:, -1:].argmax(-1)
        spent = (time.process_time() - start) / given.new
        use = memory.usage()
    expected = _expected(PolicySettings(name=name, budget=budget), facts, seen.shape[1], given)
    live = float(use.live_final or 0) / MIB
    return Found(name, prefill, spent, _peak(), expected, live, use.bytes_final / MIB)


def _expected(settings: PolicySettings, facts: ModelFacts, tokens: int, given: Any) -> float:
    """MiB that a plan expects: weights, what runs around them, cache, state and activations."""
    size: int = getattr(torch, given.dtype).itemsize
    need = planned.need(
        settings,
        facts,
        others=(),
        context=tokens + given.new,
        prompt=tokens,
        interval=given.interval,
        number_bytes=size,
        sequences=1,
    )
    return (facts.weights(size) + planned.RUNTIME + need.total) / MIB


def _reset_peak() -> None:
    """Let the kernel forget the peak of this process so far."""
    RESET.write_text("5", encoding="utf-8")


def _peak() -> float:
    """MiB that this process held at most since then."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def in_words(found: list[Found], facts: ModelFacts, given: Any, tokens: int, tower: float) -> str:
    """Return the table."""
    lines = [
        f"LLaVA-OneVision-0.5B's architecture{' in small' if given.tiny else ''}, random weights "
        f"({facts.parameters / 1e6:,.1f} M numbers) in {given.dtype}: {given.frames} frames, "
        f"{tokens} tokens, {given.new} new; {given.fraction} kept, interval {given.interval}. "
        f"{processor()}, {given.threads} thread, torch {torch.__version__}. The tower took "
        f"{tower:.1f} CPU s a frame.",
        "",
        "| cache | prefill, CPU s | per token, CPU s | peak, MiB | plan, MiB | plan / peak "
        "| cache, MiB live | allocated |",
        "| --- " + "| ---: " * 7 + "|",
    ]
    lines += [
        f"| {one.policy} | {one.prefill:.1f} | {one.token:.2f} | {one.peak:.0f} "
        f"| {one.planned:.0f} | {one.planned / one.peak:.2f} | {one.live:.1f} "
        f"| {one.allocated:.1f} |"
        for one in found
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
