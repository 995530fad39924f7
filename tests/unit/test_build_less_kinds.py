"""Kernels of LESS are trained on videos and on episodes, as they are seen and played."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.residuals.less import KERNELS, LessKernels, load_kernels
from namm_mm.tasks.offline_rl import OfflineRlTask
from research.builders.text.less import LessTraining, train_model
from research.builders.text.smollm2 import file_for
from research.residuals import joint, training
from research.residuals.material import HELD_OUT, Material, material, of_control, play

pytestmark = pytest.mark.numeric

ORDERS = "pocket_rl_hopper_orders"


@pytest.fixture(scope="module")
def episodes() -> Material:
    return of_control(ORDERS, 1, steps=40)


def test_an_episode_is_recorded_as_it_was_played() -> None:
    """One call over the whole episode gives the actions that were fed back into it."""
    adapter = DecisionTransformerAdapter(model=ORDERS)
    adapter.load()
    whole: Any = adapter.model
    (call,) = play(adapter, OfflineRlTask(max_steps=40, orders=True), "train", 1)
    given = call["inputs_embeds"]
    assert given.shape == (1, 3 * 40 - 1, 64)
    with torch.no_grad():
        hidden = adapter.backbone(**call, use_cache=False).last_hidden_state[0]
        actions = whole.predict_action(hidden[1:-1:3])  # read off the states
        times = whole.embed_timestep.weight[: len(actions)]
        expected = whole.embed_ln(whole.embed_action(actions) + times)
    torch.testing.assert_close(given[0, 2::3], expected, atol=1e-4, rtol=1e-4)


def test_the_dense_run_of_an_episode_is_that_of_the_memory(episodes: Material) -> None:
    torch.manual_seed(0)
    parts = tuple(training.new_part(1, 1, 64, 8, 4) for _ in range(3))
    for part in parts:
        part["s1"].fill_(0.5)
    policy = create("h2o", budget=0.2)
    (lesson,) = joint.make_lessons(replace(episodes, calls=episodes.calls[:1]), policy)
    less: Any = create("less", over=policy, kernels=LessKernels(parts))
    with torch.no_grad():
        full = episodes.model(**lesson.call, use_cache=False)
        with joint.evicting(episodes.model, parts, lesson, episodes.interval):
            dense = episodes.model(**lesson.call, use_cache=False)
        with attach(episodes.model, less, interval=episodes.interval):
            streamed = episodes.model(**lesson.call)
    found = [float(episodes.measure(full, out, lesson.call)) for out in (dense, streamed)]
    assert found[0] == pytest.approx(found[1], rel=0.05)
    assert found[0] > 1e-5


def test_kernels_of_a_decision_transformer_are_built(episodes: Material, tmp_path: Path) -> None:
    settings = LessTraining(ORDERS, "h2o", 0.2, 1, 4, 2, epochs=1, joint_epochs=1)
    said: list[str] = []
    file = train_model(episodes, settings, tmp_path / "less.safetensors", said.append)
    made = load_kernels(file)
    assert (made.layers, made.shape) == (3, (1, 1, 64))
    assert made.card["interval"] == 48
    assert set(made.card["squared_difference_of_actions_from_full"]) == {
        *("without", "each_layer_alone", "together")
    }


@pytest.mark.slow  # nine videos are written and read
def test_the_kind_of_a_model_says_what_it_is_trained_on() -> None:
    videos = material("pocket_video", 1)
    assert {"input_ids", "pixel_values_videos"} <= set(videos.calls[0])
    assert len(videos.calls) == 1 + HELD_OUT
    assert videos.unit == "nats"


def test_bundled_kernels_are_replaced_by_those_of_their_own_model_alone() -> None:
    assert file_for("pocket_video", None, KERNELS) == KERNELS.path("pocket_video")
    with pytest.raises(UsageError, match=r"expected out=FILE\.safetensors"):
        file_for("somebody/else", None, KERNELS)
