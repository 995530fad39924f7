"""Orders shown once: who sees them when, what they are worth, and how windows keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from namm_mm.errors import UsageError
from namm_mm.models.cards import BUNDLED
from namm_mm.tasks.offline_rl import OfflineRlTask, Trajectories
from namm_mm.tasks.offline_rl.environments import make_environment
from namm_mm.tasks.offline_rl.orders import FIRST, ORDERS, PART, SHOWN, STEPS, orders_of, shown_once
from research.builders.control.behaviour import BehaviourPolicy, Reminded, evaluate
from research.builders.control.windows import Windows

pytestmark = pytest.mark.numeric

ENVIRONMENT = "HalfCheetah-v5"
SHOW = slice(-2 * ORDERS, -ORDERS)  # where in an observation the orders are, before the parts


def _run(seed: int, *, remind: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, rewards and speeds of one episode of fixed random actions."""
    env = make_environment(ENVIRONMENT, orders=True, remind=remind)
    generator = np.random.default_rng(0)
    observation, _ = env.reset(seed=seed)
    seen, rewards, speeds, cut = [], [], [], False
    while not cut:
        seen.append(observation)
        action = generator.uniform(-1, 1, 6).astype(np.float32)
        observation, reward, _, cut, info = env.step(action)
        rewards.append(reward - info["reward_ctrl"])
        speeds.append(info["reward_forward"])
    env.close()
    return np.asarray(seen, dtype=np.float32), np.asarray(rewards), np.asarray(speeds)


def test_orders_are_shown_once_and_count_throughout() -> None:
    seen, rewards, speeds = _run(3, remind=False)
    assert len(seen) == STEPS
    orders = seen[FIRST, SHOW]
    assert set(np.abs(orders)) == {1.0}
    np.testing.assert_array_equal(seen[FIRST : FIRST + SHOWN, SHOW], np.tile(orders, (SHOWN, 1)))
    assert not seen[:FIRST, SHOW].any()
    assert not seen[FIRST + SHOWN :, SHOW].any()
    np.testing.assert_array_equal(seen[:, -ORDERS:], np.repeat(np.eye(ORDERS), PART, axis=0))
    np.testing.assert_allclose(rewards, np.repeat(orders, PART) * speeds, atol=1e-6)
    drawn = {tuple(_orders(seed)) for seed in range(12)}
    assert len(drawn) > 5
    assert tuple(_orders(7)) == tuple(_orders(7))


def _orders(seed: int) -> np.ndarray:
    env = make_environment(ENVIRONMENT, orders=True)
    env.reset(seed=seed)
    for _ in range(FIRST):
        observation, *_ = env.step(np.zeros(6, np.float32))
    env.close()
    return np.asarray(observation[SHOW])


@pytest.mark.parametrize("environment", ["Hopper-v5", "Walker2d-v5"])
def test_where_a_body_would_fall_an_order_turns_its_motors(environment: str) -> None:
    plain, env = make_environment(environment), make_environment(environment, orders=True)
    generator, drawn = np.random.default_rng(0), set()
    size = plain.action_space.shape[0]  # type: ignore[index]
    for seed in range(6):
        observation, _ = env.reset(seed=seed)
        same, _ = plain.reset(seed=seed)
        np.testing.assert_array_equal(observation[: -2 * ORDERS], same)
        sign = env.order  # type: ignore[attr-defined]
        drawn.add(sign)
        for _ in range(5):
            action = generator.uniform(-1, 1, size).astype(np.float32)
            observation, reward, *_ = env.step(action)
            same, paid, *_ = plain.step(np.float32(sign) * action)
            np.testing.assert_array_equal(observation[: -2 * ORDERS], same)
            assert reward == paid
    assert drawn == {-1.0, 1.0}


def test_a_reminded_policy_turns_with_the_motors() -> None:
    plain = BehaviourPolicy.load(BUNDLED / "pocket_rl_hopper" / "expert.npz")
    seeds = range(3)
    reminded = evaluate(Reminded(plain), "Hopper-v5", seeds=seeds, orders=True)
    assert reminded > 700
    assert evaluate(_Deaf(plain), "Hopper-v5", seeds=seeds, orders=True) < 300


class _Deaf(Reminded):
    """Never turns."""

    def act(self, states: Any, noise: float, generator: np.random.Generator) -> Any:
        return self.policy.act(states[:, :-1], noise, generator)


def test_orders_of_parts_that_an_episode_did_not_reach_are_drawn() -> None:
    reminded = np.zeros((PART + 10 + 3, 2), dtype=np.float32)
    reminded[:, -1] = 1.0
    reminded[PART : PART + 10, -1] = -1.0
    bounds = ((0, PART + 10), (PART + 10, len(reminded)))  # the second is over while orders show
    seen = shown_once(reminded, bounds)
    orders = orders_of(seen, bounds)
    np.testing.assert_array_equal(orders[:, -1], reminded[:, -1])
    np.testing.assert_array_equal(seen[FIRST : FIRST + SHOWN, SHOW], orders[:SHOWN, :-1])
    assert set(np.abs(orders.ravel())) == {1.0}
    assert not seen[FIRST + SHOWN : PART + 10, SHOW].any()
    np.testing.assert_array_equal(seen, shown_once(reminded, bounds))


def test_data_of_a_reminded_policy_becomes_what_an_agent_sees() -> None:
    (shown, rewards, _), (reminded, same, _) = _run(3, remind=False), _run(3, remind=True)
    np.testing.assert_allclose(rewards, same)
    np.testing.assert_array_equal(reminded[:, -1], np.repeat(shown[FIRST, SHOW], PART))
    two = np.concatenate([reminded, reminded])
    bounds = ((0, STEPS), (STEPS, 2 * STEPS))
    seen = shown_once(two, bounds)
    np.testing.assert_array_equal(seen, np.concatenate([shown, shown]))
    orders = orders_of(seen, bounds)
    np.testing.assert_array_equal(orders[:, :-1], np.tile(shown[FIRST, SHOW], (2 * STEPS, 1)))
    np.testing.assert_array_equal(orders[:, -1], two[:, -1])


def test_windows_that_keep_the_beginning_have_no_step_twice() -> None:
    count = 2 * STEPS
    ends = np.arange(1, count + 1) % STEPS == 0
    data = Trajectories(
        observations=np.arange(count, dtype=np.float32)[:, None],
        actions=np.zeros((count, 1), np.float32),
        rewards=np.ones(count, np.float32),
        terminals=np.zeros(count, np.bool_),
        timeouts=ends,
    )
    windows = Windows(data, window=12, beginning=SHOWN)
    batch = windows.draw(500, np.random.default_rng(0))
    states = np.rint(batch["states"][..., 0] * windows.deviation + windows.mean).astype(int)
    for state, steps, real in zip(
        states, batch["timesteps"], batch["attention_mask"].astype(bool), strict=True
    ):
        shown = steps[real]
        assert (np.diff(shown) > 0).all()
        begins = min(SHOWN, len(shown))
        np.testing.assert_array_equal(shown[:begins], range(begins))
        np.testing.assert_array_equal(state[real] % STEPS, shown)
        assert len(set(state[real] // STEPS)) == 1
    assert (batch["timesteps"][:, -1] > 100).any()


@pytest.mark.parametrize(
    "options", [{"environment": "Hopper-v4"}, {"environment": ENVIRONMENT, "hidden_velocities": 1}]
)
def test_orders_are_refused_where_they_cannot_be_given(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="orders cannot be given here"):
        OfflineRlTask(orders=True, **options)  # type: ignore[arg-type]


def test_the_task_with_orders_has_sizes_and_a_scale_of_its_own() -> None:
    plain, task = OfflineRlTask(ENVIRONMENT), OfflineRlTask(ENVIRONMENT, orders=True)
    assert task.dimensions() == (17 + 2 * ORDERS, 6)
    assert task.fingerprint() != plain.fingerprint()
    assert task.family == "HalfCheetah-v5 with orders"
    assert task.target_return() < 500
