"""Control through a cache: exact against the plain model, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from control_checkpoints import ACTION, SCALE, STATE, TARGET, save_model
from numpy.typing import NDArray

from namm_mm.adapters.base import ActingAdapter
from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.policies.base import Budget
from namm_mm.records import TokenType

pytestmark = pytest.mark.numeric


TOKENS = 12  # four steps: the window of the model


@pytest.fixture
def adapter(tmp_path: Path) -> DecisionTransformerAdapter:
    loaded = DecisionTransformerAdapter(str(save_model(tmp_path / "dt")), device="cpu")
    loaded.load()
    return loaded


def episode(steps: int, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Observations (step, row, state) and rewards (step, row), the first rewards zero."""
    generator = np.random.default_rng(5)
    observations = generator.standard_normal((steps, rows, STATE)).astype(np.float32)
    rewards = generator.random((steps, rows)).astype(np.float32)
    rewards[0] = 0.0
    return observations, rewards


def drive(agent: Any, observations: Any, rewards: Any, alive: Any = None) -> NDArray[np.float32]:
    """Actions (step, row, action) of an agent that is shown a recorded episode."""
    if alive is None:
        alive = np.ones(rewards.shape, dtype=np.bool_)
    return np.stack([agent.act(*step) for step in zip(observations, rewards, alive, strict=True)])


def full_forward(
    adapter: DecisionTransformerAdapter, observations: Any, rewards: Any, actions: Any
) -> NDArray[np.float32]:
    """The same actions from one call of the plain model over the whole episode."""
    mean = np.asarray(adapter.control_facts.state_mean, dtype=np.float32)
    deviation = np.asarray(adapter.control_facts.state_std, dtype=np.float32)
    states = torch.from_numpy((observations - mean) / deviation).transpose(0, 1)
    to_go = torch.from_numpy((TARGET - np.cumsum(rewards, axis=0)) / SCALE).T[..., None]
    steps, rows = rewards.shape
    model: Any = adapter.model
    last = model.config.max_ep_len - 1
    with torch.inference_mode():
        output = model(
            states=states,
            actions=torch.from_numpy(actions).transpose(0, 1),
            returns_to_go=to_go.float(),
            timesteps=torch.arange(steps).clamp(max=last).expand(rows, steps),
            return_dict=True,
        )
    predicted: NDArray[np.float32] = output.action_preds.transpose(0, 1).numpy()
    return predicted


@pytest.mark.parametrize("with_memory", [False, True])
def test_streaming_gives_the_actions_of_one_full_forward(
    adapter: DecisionTransformerAdapter, with_memory: bool
) -> None:
    observations, rewards = episode(steps=12, rows=3)
    if with_memory:
        with attach(adapter.backbone, create("full"), interval=4) as memory:
            agent = adapter.agent(3, memory, target_return=TARGET)
            actions = drive(agent, observations, rewards)
            assert memory.usage(row=2).seen == len(agent.token_types) == 12 * 3 - 1
    else:
        actions = drive(adapter.agent(3, None, target_return=TARGET), observations, rewards)
    expected = full_forward(adapter, observations, rewards, actions)
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert np.ptp(expected) > 0.5  # a constant would agree with anything


def test_the_window_is_a_fresh_forward_over_the_last_steps(
    adapter: DecisionTransformerAdapter, tmp_path: Path
) -> None:
    observations, rewards = episode(steps=4, rows=2)
    actions = drive(adapter.window_agent(2, TOKENS, target_return=TARGET), observations, rewards)
    expected = full_forward(adapter, observations, rewards, actions)
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    observations, rewards = episode(steps=9, rows=2)
    longer = drive(adapter.window_agent(2, TOKENS, target_return=TARGET), observations, rewards)
    forgotten = observations.copy()
    forgotten[:5] += 1.0
    agent = adapter.window_agent(2, TOKENS, target_return=TARGET)
    agent_actions = drive(agent, forgotten, rewards)
    assert not np.allclose(agent_actions[7], longer[7], atol=1e-3)  # it still sees step 4
    cached = drive(adapter.agent(2, None, target_return=TARGET), observations, rewards)
    assert not np.allclose(cached[8], longer[8], atol=1e-3)


def test_a_window_tells_what_the_last_decision_of_each_row_saw(
    adapter: DecisionTransformerAdapter,
) -> None:
    observations, rewards = episode(steps=7, rows=2)
    alive = np.ones(rewards.shape, dtype=np.bool_)
    alive[3:, 1] = False
    agent = adapter.window_agent(2, 12, target_return=TARGET)  # four steps
    drive(agent, observations, rewards, alive)
    long, short = agent.usage(0), agent.usage(1)
    assert (long.seen, long.tokens_final, long.kept_by_layer) == (20, 11.0, (11.0, 11.0))
    assert [held.tolist() for held in agent.kept(1, 0)] == [list(range(9, 20))] * 2
    assert (short.seen, short.tokens_peak) == (8, 8.0)
    assert long.bytes_peak == 12 * 2 * 2 * 16 * 4  # tokens, layers, keys and values, width, float32
    assert long.bytes_final == 4 * (STATE + ACTION + 1) * 4
    with pytest.raises(UsageError, match="no whole steps: got 'tokens:10', expected a multiple of"):
        adapter.window_agent(2, 10, target_return=TARGET)


@pytest.mark.parametrize("policy", ["none", "full", "recency"])
def test_a_finished_row_disturbs_no_other_and_keeps_its_memory(
    adapter: DecisionTransformerAdapter, policy: str
) -> None:
    observations, rewards = episode(steps=14, rows=3)
    alive = np.ones(rewards.shape, dtype=np.bool_)
    alive[6:, 1] = False
    noisy = observations.copy()
    noisy[6:, 1] = 1e3  # what a finished environment shows is of no consequence

    def play(rows: list[int], shown: Any) -> tuple[NDArray[np.float32], list[list[int]]]:
        part = shown[:, rows], rewards[:, rows], alive[:, rows]
        if policy == "none":
            return drive(adapter.agent(len(rows), None, target_return=TARGET), *part), []
        options = {"budget": Budget(tokens=7)} if policy == "recency" else {}
        with attach(adapter.backbone, create(policy, **options), interval=5) as memory:
            actions = drive(adapter.agent(len(rows), memory, target_return=TARGET), *part)
            return actions, [memory.kept(1, row)[0].tolist() for row in range(len(rows))]

    together, kept = play([0, 1, 2], noisy)
    for row in range(3):
        alone, kept_alone = play([row], observations)
        steps = 6 if row == 1 else 14
        np.testing.assert_allclose(together[:steps, row], alone[:steps, 0], atol=1e-5)
        assert policy == "none" or kept[row] == kept_alone[0]


def test_a_timestep_beyond_the_table_takes_its_last_entry(tmp_path: Path) -> None:
    short = DecisionTransformerAdapter(str(save_model(tmp_path, max_ep_len=4)), device="cpu")
    short.load()
    observations, rewards = episode(steps=8, rows=1)
    actions = drive(short.agent(1, None, target_return=TARGET), observations, rewards)
    np.testing.assert_allclose(
        actions, full_forward(short, observations, rewards, actions), atol=1e-5
    )


def test_token_types_name_every_token_in_the_order_fed(adapter: DecisionTransformerAdapter) -> None:
    agent = adapter.agent(2, None, target_return=TARGET)
    assert not agent.token_types
    drive(agent, *episode(steps=2, rows=2))
    assert agent.token_types == (
        TokenType("return", 0),
        TokenType("state", 0),
        TokenType("action", 0),
        TokenType("return", 1),
        TokenType("state", 1),
    )


def test_every_new_agent_begins_with_an_empty_memory(adapter: DecisionTransformerAdapter) -> None:
    recorded = episode(steps=5, rows=1)
    with attach(adapter.backbone, create("full"), interval=4) as memory:
        first = drive(adapter.agent(1, memory, target_return=TARGET), *recorded)
        second = drive(adapter.agent(1, memory, target_return=TARGET), *recorded)
        assert memory.usage().seen == 14
    np.testing.assert_array_equal(first, second)


def test_it_is_an_acting_adapter_that_says_what_it_needs(
    adapter: DecisionTransformerAdapter,
) -> None:
    assert isinstance(adapter, ActingAdapter)
    assert adapter.dimensions == (STATE, ACTION)
    agent = adapter.agent(2, None, target_return=TARGET)
    with pytest.raises(UsageError, match=r"does not fit.*\(2, 11\).*\(2, 5\)"):
        agent.act(np.zeros((2, 11), np.float32), np.zeros(2, np.float32), np.ones(2, np.bool_))


def test_bfloat16_acts_nearly_as_float32(
    adapter: DecisionTransformerAdapter, tmp_path: Path
) -> None:
    half = DecisionTransformerAdapter(str(tmp_path / "dt"), device="cpu", dtype="bfloat16")
    half.load()
    recorded = episode(steps=6, rows=2)
    exact = drive(adapter.agent(2, None, target_return=TARGET), *recorded)
    with attach(half.backbone, create("full"), interval=4) as memory:
        rough = drive(half.agent(2, memory, target_return=TARGET), *recorded)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough[0], exact[0], atol=0.1)  # later steps feed on their own error
    assert np.abs(rough - exact).mean() < 0.1
