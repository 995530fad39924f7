"""LESS in half precision, on a video model and on a Decision Transformer.

Kernels that leave no trace (``psi = 0``) change nothing there, others run; the state is counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.records import MemoryUse, Record
from namm_mm.residuals.less import PARTS, LessKernels

pytestmark = pytest.mark.numeric
FEATURES = 4


class Shape(NamedTuple):
    """Sizes of a model."""

    layers: int
    heads: int
    kv_heads: int
    dim: int

    @property
    def state(self) -> int:
        """Bytes of the state: a value and a weight for each feature, in float32."""
        return self.layers * self.kv_heads * FEATURES * (self.dim + 1) * 4


TEXT, VIDEO, CONTROL = Shape(2, 4, 2, 8), Shape(6, 4, 2, 32), Shape(3, 1, 1, 64)
LONG_TEXT = {"name": "long_text", "words": 150, "families": ["passkey"]}
CASES: dict[str, tuple[Shape, dict[str, Any], dict[str, Any], int]] = {
    "bfloat16": (TEXT, {"name": "text", "model": "text", "dtype": "bfloat16"}, LONG_TEXT, 32),
    "float16": (TEXT, {"name": "text", "model": "text", "dtype": "float16"}, LONG_TEXT, 32),
    "video": (
        VIDEO,
        {"name": "llava_video", "model": "pocket_video"},
        {"name": "video_qa", "families": ["shown"], "cache": "rendered"},
        64,
    ),
    "control": (
        CONTROL,
        {"name": "decision_transformer", "model": "pocket_rl_hopper"},
        {"name": "offline_rl", "environment": "Hopper-v5", "max_steps": 40},
        48,
    ),
}


def kernels(shape: Shape, *, trace: bool) -> LessKernels:
    """Random ones; without a trace the scales of psi are 0."""
    draw = torch.Generator().manual_seed(0)
    heads, kv_heads, dim = shape[1:]
    shapes = {
        "a1": (heads, dim, 8), "a2": (heads, 8, FEATURES), "b1": (kv_heads, dim, 8),
        "b2": (kv_heads, 8, FEATURES), "b3": (kv_heads, FEATURES, FEATURES),
        "s1": (kv_heads, 1, FEATURES), "s2": (kv_heads, 1, FEATURES),
    }  # fmt: skip
    parts = [
        {name: torch.randn(shapes[name], generator=draw) * 0.3 for name in PARTS}
        for _ in range(shape.layers)
    ]
    if not trace:
        parts = [{**p, "s1": p["s1"] * 0, "s2": p["s2"] * 0} for p in parts]
    return LessKernels(tuple(parts))


def records_of(case: str, folder: Path, *, trace: bool) -> tuple[Record, ...]:
    shape, adapter, task, interval = CASES[case]
    file = kernels(shape, trace=trace).save(folder / "less.safetensors")
    cell = {
        "adapter": {**adapter, "device": "cpu"},
        "task": task,
        "policies": ["h2o", {"name": "less", "over": "h2o", "kernels": str(file)}],
        "budgets": ["tokens:24"],
        "interval": interval,
        "limit": 1,
    }
    settings = from_mapping({"name": "less", "cells": {"one": cell}, "wandb": "disabled"})
    return run(settings, folder=folder / "run").records


def used(record: Record) -> MemoryUse:
    assert not record.error
    assert record.memory is not None
    assert record.memory.updates
    return record.memory


@pytest.mark.parametrize("case", CASES)
def test_no_trace_changes_nothing_and_its_bytes_are_counted(
    case: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    plain, less = records_of(case, tmp_path, trace=False)
    assert less.policy == "less(h2o)"
    assert less.value == pytest.approx(plain.value, abs=2e-2 if "float" in case else 1e-4)
    assert used(less).kept_by_layer == used(plain).kept_by_layer
    state = CASES[case][0].state
    assert used(less).bytes_final - used(plain).bytes_final == state
    assert (used(less).live_final or 0) - (used(plain).live_final or 0) == state


@pytest.mark.parametrize("case", CASES)
def test_a_trace_runs_and_is_counted(
    case: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    plain, less = records_of(case, tmp_path, trace=True)
    assert used(less).bytes_final - used(plain).bytes_final == CASES[case][0].state
    assert less.value is not None
    assert less.value == less.value  # a number
