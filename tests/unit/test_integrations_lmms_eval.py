"""lmms-eval, where it is installed, runs its tasks through a memory that forgets.

It pins other versions than we do, so the tests that need it run in an environment of its own:
docs/how-to/lmms-eval-and-kvpress.md says how to make one.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import benchmark_folders
import numpy as np
import pytest
import torch
import video_checkpoints
from PIL import Image

from namm_mm.errors import RunError, UsageError
from namm_mm.integrations import lmms_eval as plugin
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.policies import Budget

needs_lmms_eval = pytest.mark.skipif(
    find_spec("lmms_eval") is None, reason="lmms-eval is not installed"
)


def test_arguments_are_parted_and_checked() -> None:
    given = {"pretrained": "x", "policy": "h2o", "budget": "tokens:8", "frames": 4}
    memory, rest = plugin.split_arguments(given)
    assert rest == {"pretrained": "x", "frames": 4}
    assert memory.make().selection == Budget(tokens=8)
    with pytest.raises(UsageError, match="Did you mean 'per_head'"):
        plugin.split_arguments({"storage": "perhead"})
    with pytest.raises(UsageError, match="Did you mean 'recency'"):
        plugin.split_arguments({"policy": "recensy"})
    assert plugin._until("B. a dog\n\nUSER:", ["\n\n"]) == "B. a dog"
    with pytest.raises(UsageError, match="one video file"):
        plugin._only_video([SimpleNamespace()])


def test_a_wrapper_whose_model_never_ran_is_an_error() -> None:
    from namm_mm.testing.tiny import tiny_llama, tiny_tokens

    model = tiny_llama()
    wrapper = SimpleNamespace(
        model=model,
        memory_arguments=plugin.MemoryArguments("recency", budget="tokens:8", interval=8),
        tally=plugin.Tally(),
    )
    with plugin._attached(wrapper, 1):
        model(tiny_tokens(1, 20))
    layers = model.config.num_hidden_layers
    assert wrapper.tally == plugin.Tally(2 * layers, (8 + 16) * layers, 2 * 8.0 * layers)
    assert wrapper.tally.words.startswith("kept 66.7% of the tokens seen")
    with pytest.raises(RunError, match="no token went through"), plugin._attached(wrapper, 1):
        pass


@needs_lmms_eval
def test_lmms_eval_finds_the_models() -> None:
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    registry = ModelRegistryV2()
    for manifest in plugin.manifests():
        registry.register_manifest(manifest)
    assert "namm_llava_hf" in registry.list_model_names()
    assert registry.get_model_class("namm_video").__name__ == "NammVideo"
    for simple in (True, False):
        found = registry.get_model_class("namm_llava_hf", force_simple=simple)
        assert found.__name__ == "NammLlavaHf"


TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
task: tiny_walls
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 4, temperature: 0, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
UTILS = """
def visual(doc):
    return [doc["video"]]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]
"""


def run_task(folder: Path, model: str, arguments: str) -> list[str]:
    """The replies of a model to a task of two questions about videos, through lmms-eval."""
    from lmms_eval import evaluator
    from lmms_eval.tasks import TaskManager

    tasks = folder / "tasks"
    if not tasks.is_dir():
        tasks.mkdir()
        for seed in range(2):
            benchmark_folders.save_clip(folder / f"{seed}.mp4", seed)
        rows = [
            {"video": str(folder / f"{seed}.mp4"), "question": "What color was it?", "answer": "x"}
            for seed in range(2)
        ]
        (folder / "rows.json").write_text("\n".join(json.dumps(row) for row in rows))
        (tasks / "utils.py").write_text(UTILS)
        (tasks / "tiny_walls.yaml").write_text(TASK.format(data=folder / "rows.json"))
    results: Any = evaluator.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=["tiny_walls"],
        batch_size=1,
        device="cpu",
        log_samples=True,
        task_manager=TaskManager("ERROR", include_path=str(tasks), model_name=model),
    )
    return [sample["filtered_resps"][0] for sample in results["samples"]["tiny_walls"]]


@needs_lmms_eval
@pytest.mark.filterwarnings("ignore")
def test_a_task_of_lmms_eval_runs_under_a_policy(tmp_path: Path) -> None:
    from namm_mm.adapters.video.adapter import LlavaVideoAdapter
    from namm_mm.records import Sample

    video_checkpoints.save_checkpoint(tmp_path / "model", "llava_next_video")
    base = f"pretrained={tmp_path / 'model'},frames=4,dtype=float32"
    full = run_task(tmp_path, "namm_video", f"{base},policy=full")
    short = run_task(tmp_path, "namm_video", f"{base},policy=h2o,budget=tokens:8,interval=16")
    adapter = LlavaVideoAdapter(
        model=str(tmp_path / "model"), frames=4, dtype="float32", device="cpu", answer_by="generate"
    )
    adapter.max_new_tokens = 4
    adapter.load()
    wanted = []
    for seed in range(2):
        sample = Sample("s", "f", prompt="What color was it?", video=tmp_path / f"{seed}.mp4")
        wanted.append(adapter.answer(adapter.prepare(sample), None).text)
    assert full == wanted
    assert short != full


PICTURES = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
task: tiny_pictures
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 8, temperature: 0, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
LOOK = """
from PIL import Image


def visual(doc):
    return [Image.open(doc["picture"]).convert("RGB")]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]
"""


def save_pictures(folder: Path) -> None:
    """A task of lmms-eval about three pictures."""
    tasks = folder / "pictures"
    tasks.mkdir()
    rows = []
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
        picture = str(folder / f"{seed}.png")
        rows.append({"picture": picture, "question": "What color is it? " * 4, "answer": "x"})
    (folder / "pictures.json").write_text("\n".join(json.dumps(row) for row in rows))
    (tasks / "utils.py").write_text(LOOK)
    (tasks / "tiny_pictures.yaml").write_text(PICTURES.format(data=folder / "pictures.json"))


def look(folder: Path, name: str, arguments: str) -> tuple[list[str], Any]:
    """Replies of a wrapper of lmms-eval, in its own evaluation, and the wrapper."""
    from lmms_eval import evaluator, models
    from lmms_eval.tasks import TaskManager

    wrapper: Any = models.get_model(name, True).create_from_arg_string(
        f"pretrained={folder / 'llava'},dtype=float32,device_map=cpu{arguments}",
        {"batch_size": 1, "device": "cpu"},
    )
    results: Any = evaluator.simple_evaluate(
        model=wrapper,
        tasks=["tiny_pictures"],
        batch_size=1,
        device="cpu",
        log_samples=True,
        task_manager=TaskManager("ERROR", include_path=str(folder / "pictures"), model_name=name),
    )
    samples = results["samples"]["tiny_pictures"]
    return [sample["filtered_resps"][0] for sample in samples], wrapper


@needs_lmms_eval
@pytest.mark.filterwarnings("ignore")
def test_policies_evict_in_lmms_evals_own_llava(tmp_path: Path) -> None:
    video_checkpoints.save_llava(tmp_path / "llava")
    save_pictures(tmp_path)
    card = {"about": "random numbers", "made_by": "a test", "licence": "Apache-2.0"}
    torch.manual_seed(0)
    network = Namm(torch.randn(4172), torch.zeros(17), torch.ones(17), card=card)
    file = save(network, tmp_path / "namm.safetensors")
    plain, _ = look(tmp_path, "llava_hf", "")
    full, wrapper = look(tmp_path, "namm_llava_hf", ",policy=full,interval=16")
    assert full == plain
    assert len(set(plain)) > 1, "the model does not look"
    for words in (",policy=h2o,budget=tokens:8", f",policy=namm,checkpoint={file}"):
        replies, wrapper = look(tmp_path, "namm_llava_hf", f"{words},interval=16")
        assert len(replies) == 3
        assert wrapper.tally.updates >= 3 * 2 * 2  # pictures, evictions, layers
        assert wrapper.tally.kept < 0.9 * wrapper.tally.seen
        if "h2o" in words:
            assert wrapper.tally.kept == 8.0 * wrapper.tally.updates
            assert replies != full
