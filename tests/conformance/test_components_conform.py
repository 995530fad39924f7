"""Every adapter, task and policy that ships passes the kit that third parties use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import benchmark_folders
import pytest
import speech_checkpoints
import torch
from torch import Tensor

from namm_mm.adapters import ADAPTERS
from namm_mm.policies import POLICIES, create
from namm_mm.policies.trim_gates import TrimGates
from namm_mm.registry.registry import build
from namm_mm.residuals import FeatureMaps
from namm_mm.tasks import TASKS
from namm_mm.tasks.speech_qa.speaking import missing_program
from namm_mm.testing import check_adapter, check_policy, check_task

pytestmark = pytest.mark.numeric

TASK_OPTIONS: dict[str, dict[str, Any]] = {
    "choubun": {"source": "choubun", "words": "characters"},
    "infinitebench": {"source": "infinitebench"},
    "long_text": {"words": 120},
    "video_qa": {"cache": "rendered"},
    "image_qa": {"cache": "drawn"},
    "film_qa": {"cache": "rendered", "slots": 16, "moments": 2},
    "speech_qa": {"cache": "spoken"},
    "offline_rl": {"environment": "Hopper-v5", "max_steps": 30},
    "longvideobench": {"source": "longvideobench", "subtitles": True},
    "mlvu": {"source": "mlvu"},
    "video_mme": {"source": "video_mme", "subtitles": True},
}
TASK_SPLITS = {"longvideobench": "validation"}  # its test split has no answers
ADAPTER_OPTIONS: dict[str, dict[str, Any]] = {
    "text": {"model": "text", "dtype": "float32"},
    "llava_video": {"model": "video", "frames": 6, "dtype": "float32"},
    "speech": {"model": "speech", "dtype": "float32"},
    "video": {"model": "chat", "frames": 6, "dtype": "float32"},
    "image": {"model": "image", "dtype": "float32"},
    "album": {"model": "video", "dtype": "float32"},
    "film": {"model": "video", "frames": 16, "dtype": "float32"},
    "decision_transformer": {"model": "control"},
}
ASKED = {
    "text": "long_text",
    "llava_video": "video_qa",
    "video": "video_qa",
    "image": "image_qa",
    "album": "image_qa",
    "film": "film_qa",
}


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


@pytest.mark.parametrize("name", list(POLICIES))
def test_policy(name: str) -> None:
    options: dict[str, Any] = {"checkpoint": "namm.safetensors"} if name == "namm" else {}
    if name == "less":  # no kernels are bundled: those that leave no trace
        options = {"over": "h2o", "kernels": NoTrace()}
    if name == "trimkv":  # gates are trained for one model
        options = {"gates": gates()}
    check_policy(create(name, **options))


def gates() -> TrimGates:
    """Gates for the kit's model: 2 layers, 2 kv heads of 8 numbers."""
    draw = torch.Generator().manual_seed(0)
    shapes = {
        "inner": (2, 2, 16, 4),
        "inner_bias": (2, 2, 1, 4),
        "outer": (2, 2, 4, 1),
        "outer_bias": (2, 2, 1, 1),
    }
    return TrimGates({name: torch.randn(shape, generator=draw) for name, shape in shapes.items()})


class NoTrace(FeatureMaps):
    """Feature maps for any model of two layers whose state weighs nothing."""

    features = 1
    layers = 2

    def of_queries(self, layer: int, queries: Tensor) -> Tensor:
        return queries[..., :1].float().abs()

    def of_keys(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        return torch.zeros_like(keys[..., :1]).float()


@pytest.mark.parametrize("name", [name for name in TASKS if name != "longbench"])  # has its own
def test_task(name: str) -> None:
    if name in ("longvideobench", "mlvu", "video_mme"):
        getattr(benchmark_folders, f"save_{name}")(Path(name))
    if name == "speech_qa" and (absent := missing_program()):
        pytest.skip(absent)
    check_task(build(TASKS, name, TASK_OPTIONS[name]), split=TASK_SPLITS.get(name, "test"))


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_adapter(name: str) -> None:
    adapter = build(ADAPTERS, name, ADAPTER_OPTIONS[name])
    samples: tuple[Any, ...] = ()
    if name in ASKED:
        task = build(TASKS, ASKED[name], TASK_OPTIONS[ASKED[name]])
        samples = tuple(task.samples("test", 3, 0))
    if name == "speech":
        samples = speech_checkpoints.samples(Path("talks"))
    check_adapter(adapter, samples)
