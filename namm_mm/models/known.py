"""Facts of published models, so that a run can be planned before anything is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

QUANTIZED_BITS = {"4bit": 4.13, "8bit": 8.0}
"""Bits of a quantised number: NF4 has a scale for each block of 64, itself quantised."""


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of one model.

    Attributes
    ----------
    parameters, unquantized
        Numbers in all weights, and in those that 4-bit loading leaves as they are: embeddings,
        norms and the output layer.
    layers, query_heads, kv_heads, head_dim, hidden, inner
        Of the decoder; `inner` is the width of its feed-forward part.
    context
        Longest sequence it was made for, in tokens (for control: in tokens of an episode).
    stored_bytes
        Bytes of one published number.
    tokens_per_frame, trailing
        How a clip is laid out in tokens; 0 for a model without video.
    gated
        Whether the hub asks to accept a licence first.
    """

    parameters: int
    unquantized: int
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    inner: int
    context: int
    stored_bytes: int = 2
    tokens_per_frame: int = 0
    trailing: int = 0
    gated: bool = False

    def weights(self, number_bytes: int, quantization: str | None = None) -> float:
        """Bytes of the weights in memory."""
        if quantization is None:
            return float(self.parameters * number_bytes)
        packed = self.parameters - self.unquantized
        return packed * QUANTIZED_BITS[quantization] / 8 + self.unquantized * number_bytes

    def kv_per_token(self, number_bytes: int) -> int:
        """Bytes of the keys and values of one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * number_bytes

    @property
    def published_bytes(self) -> int:
        """Bytes of the published weights."""
        return self.parameters * self.stored_bytes


_LLAMA3_8B = ModelFacts(
    parameters=8_030_261_248,
    unquantized=1_050_939_392,
    layers=32,
    query_heads=32,
    kv_heads=8,
    head_dim=128,
    hidden=4096,
    inner=14336,
    context=8192,
    gated=True,
)


_LLAMA3_70B = ModelFacts(
    parameters=70_553_706_496,
    unquantized=2_102_665_216,
    layers=80,
    query_heads=64,
    kv_heads=8,
    head_dim=128,
    hidden=8192,
    inner=28672,
    context=8192,
    gated=True,
)


_NEXT_VIDEO_7B = ModelFacts(
    parameters=7_063_431_168,
    unquantized=264_464_384,
    layers=32,
    query_heads=32,
    kv_heads=32,
    head_dim=128,
    hidden=4096,
    inner=11008,
    context=4096,
    tokens_per_frame=144,
)


_ONEVISION_7B = ModelFacts(
    parameters=8_029_890_080,
    unquantized=1_091_782_176,
    layers=28,
    query_heads=28,
    kv_heads=4,
    head_dim=128,
    hidden=3584,
    inner=18944,
    context=32768,
    tokens_per_frame=196,
    trailing=1,
)


_ONEVISION_05B = replace(
    _ONEVISION_7B,
    parameters=893_675_552,
    unquantized=138_168_352,
    layers=24,
    query_heads=14,
    kv_heads=2,
    head_dim=64,
    hidden=896,
    inner=4864,
)


_VIDEO_LLAVA_7B = replace(
    _NEXT_VIDEO_7B,
    parameters=7_366_279_168,
    unquantized=265_322_496,
    tokens_per_frame=257,
)


_SMOLLM2_135M = ModelFacts(
    parameters=134_515_008,
    unquantized=28_346_688,
    layers=30,
    query_heads=9,
    kv_heads=3,
    head_dim=64,
    hidden=576,
    inner=1536,
    context=8192,
)


_QWEN_05B = ModelFacts(
    parameters=494_032_768,
    unquantized=136_178_560,
    layers=24,
    query_heads=14,
    kv_heads=2,
    head_dim=64,
    hidden=896,
    inner=4864,
    context=32768,
)


_GEMMA_270M = ModelFacts(
    parameters=268_098_176,
    unquantized=167_813_376,
    layers=18,
    query_heads=4,
    kv_heads=1,
    head_dim=256,
    hidden=640,
    inner=2048,
    context=32768,
)


_DECISION_11_3 = ModelFacts(
    parameters=858_767,
    unquantized=854_927,
    layers=3,
    query_heads=1,
    kv_heads=1,
    head_dim=128,
    hidden=128,
    inner=512,
    context=3000,
    stored_bytes=4,
)


_DECISION_17_6 = replace(_DECISION_11_3, parameters=861_080, unquantized=854_936)


_EDBEECHING = "edbeeching/decision-transformer-gym-"


_QUALITIES = ("medium", "medium-replay", "expert")


KNOWN: Mapping[str, ModelFacts] = {
    "meta-llama/Meta-Llama-3-8B": _LLAMA3_8B,
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA3_8B,
    "meta-llama/Meta-Llama-3-70B": _LLAMA3_70B,
    "meta-llama/Meta-Llama-3-70B-Instruct": _LLAMA3_70B,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
    "smollm2-135m-instruct": _SMOLLM2_135M,
    "qwen2.5-coder-0.5b-instruct": _QWEN_05B,
    "gemma-3-270m": _GEMMA_270M,
    "llava-hf/LLaVA-NeXT-Video-7B-hf": _NEXT_VIDEO_7B,
    "llava-hf/LLaVA-NeXT-Video-7B-DPO-hf": _NEXT_VIDEO_7B,
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": _ONEVISION_05B,
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": _ONEVISION_7B,
    "lmms-lab/LLaVA-Video-7B-Qwen2": replace(_ONEVISION_7B, tokens_per_frame=210, trailing=0),
    "LanguageBind/Video-LLaVA-7B-hf": _VIDEO_LLAVA_7B,
    **{f"{_EDBEECHING}hopper-{quality}": _DECISION_11_3 for quality in _QUALITIES},
    **{
        f"{_EDBEECHING}{body}-{quality}": _DECISION_17_6
        for body in ("halfcheetah", "walker2d")
        for quality in _QUALITIES
    },
}
"""Published models by hub id, and the packaged one by its name."""
