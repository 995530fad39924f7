"""Episodes side by side: seeds never meet, failures stay alone, scores carry their scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from namm_mm.errors import UsageError
from namm_mm.records import Agent, TokenType
from namm_mm.tasks.base import ActingTask, Episode
from namm_mm.tasks.offline_rl import OfflineRlTask
from namm_mm.tasks.offline_rl.environments import ENVIRONMENTS, make_environment


class Constant(Agent):
    """An agent that always does the same, and remembers what it was shown."""

    def __init__(self, actions: Any) -> None:
        self.actions = np.asarray(actions, dtype=np.float32)
        self.shown: list[tuple[Any, Any, Any]] = []

    def act(self, observations: Any, rewards: Any, alive: Any) -> Any:
        self.shown.append((observations, rewards, alive))
        return self.actions

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        return ()


def play(task: OfflineRlTask, agent: Constant, count: int) -> list[Episode]:
    return sorted(task.play(task.samples("test", count, 0), agent), key=lambda e: e.row)


def test_splits_never_share_a_seed_and_are_repeatable() -> None:
    task = OfflineRlTask()
    seeds = [
        {sample.seed for sample in task.samples(split, 50, seed)}
        for split in ("train", "validation", "test")
        for seed in (0, 1, 99, 100, 201)
    ]
    assert len(set().union(*seeds)) == 3 * 5 * 50
    assert task.samples("test", 5, 0) == task.samples("test", 5, 0)
    assert task.samples("test", 3, 0) == task.samples("test", 5, 0)[:3]
    assert len(task.samples("test", None, 0)) == task.episodes


def test_an_episode_gives_the_same_alone_and_among_others() -> None:
    task, rows = OfflineRlTask(), 4
    assert isinstance(task, ActingTask)
    actions = np.linspace(-0.4, 0.4, rows)[:, None].repeat(3, axis=1)
    agent = Constant(actions)
    progress: list[tuple[int, int]] = []
    samples = task.samples("test", rows, 0)
    episodes = list(task.play(samples, agent, on_step=lambda *step: progress.append(step)))
    assert sorted(e.row for e in episodes) == list(range(rows))
    for episode in episodes:
        alone = Constant(actions[episode.row : episode.row + 1])
        (again,) = task.play([episode.sample], alone)
        assert again.rewards == episode.rewards
        details = episode.score.details
        assert details["return"] == pytest.approx(sum(episode.rewards))
        assert details["length"] == len(episode.rewards)
        expected = 100 * (details["return"] + 20.272305) / (3234.3 + 20.272305)
        assert episode.score.value == pytest.approx(expected)
        assert details["fell"]
        assert not details["published_protocol"]
        # The agent is told each reward one step later, and when the episode is over.
        told = [float(rewards[episode.row]) for _, rewards, _ in agent.shown]
        length = len(episode.rewards)
        assert told[:length] == pytest.approx([0.0, *episode.rewards[:-1]])
        lived = [bool(alive[episode.row]) for _, _, alive in agent.shown]
        assert lived == [step < length for step in range(len(lived))]
    longest = max(len(e.rewards) for e in episodes)
    assert progress[-1] == (longest - 1, 0)


def test_an_environment_that_raises_ends_its_own_episode_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = OfflineRlTask(max_steps=12)
    calls = 0

    def make(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        env: Any = make_environment(*args, **options)
        if calls == 1:

            def broken(action: Any) -> Any:
                raise RuntimeError("simulation diverged")

            env.step = broken
        if calls == 2:
            raise OSError("no model file")
        return env

    monkeypatch.setattr("namm_mm.tasks.offline_rl.task.make_environment", make)
    actions = np.zeros((4, 3))
    actions[3] = np.nan
    broken, absent, good, silent = play(task, Constant(actions), 4)
    assert "step 0: RuntimeError: simulation diverged" in broken.error
    assert "did not start: OSError: no model file" in absent.error
    assert "step 0 is not finite" in silent.error
    assert good.error == ""
    assert len(good.rewards) == 12


def test_hidden_velocities_leave_the_positions() -> None:
    task = OfflineRlTask("Walker2d-v5", hidden_velocities=True, max_steps=3)
    assert task.dimensions() == (8, 6)
    assert OfflineRlTask("Walker2d-v5").dimensions() == (17, 6)
    agent = Constant(np.zeros((1, 6)))
    play(task, agent, 1)
    env: Any = make_environment("Walker2d-v5")
    observation, _ = env.reset(seed=task.samples("test", 1, 0)[0].seed)
    np.testing.assert_allclose(agent.shown[0][0][0], env.unwrapped.data.qpos[1:], rtol=1e-6)
    np.testing.assert_allclose(observation[:8], env.unwrapped.data.qpos[1:])
    env.close()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_runs_quietly_and_leaves_no_file(
    environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = OfflineRlTask(environment, max_steps=2)
    state, action = task.dimensions()
    agent = Constant(np.zeros((1, action)))
    (episode,) = play(task, agent, 1)
    assert len(episode.rewards) == 2
    assert agent.shown[0][0].shape == (1, state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"environment": "Hoper-v5"}, "Did you mean 'Hopper-v5'"),
        ({"dataset": "d4rl"}, "hopper-medium-v2"),
        ({"dataset": "d4rl/hopper-medum-v2"}, "Did you mean 'hopper-medium-v2'"),
        ({"dataset": "d4rl/walker2d-expert-v2"}, "expected Walker2d-v4"),
        ({"max_steps": 0}, "wrong max_steps"),
        ({"episodes": 0}, "wrong episodes"),
        ({"target_return": float("nan")}, "wrong target_return"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        OfflineRlTask(**options)


def test_wrong_requests_are_refused_before_they_run() -> None:
    task = OfflineRlTask(max_steps=2)
    with pytest.raises(UsageError, match="Did you mean 'validation'"):
        task.samples("valid", 1, 0)
    with pytest.raises(UsageError, match="0 to 10000 episodes"):
        task.samples("test", 10_001, 0)
    with pytest.raises(UsageError, match="negative seed"):
        task.samples("test", 1, -1)
    with pytest.raises(UsageError, match=r"wrong shape of actions.*\(1, 6\).*\(1, 3\)"):
        play(task, Constant(np.zeros((1, 6))), 1)


def test_settings_change_the_fingerprint_and_the_data_set_the_target() -> None:
    published = OfflineRlTask("Hopper-v4", "d4rl/hopper-medium-v2")
    assert published.target_return() == 3600.0
    assert OfflineRlTask().target_return() == 3300.0
    assert OfflineRlTask(target_return=1800).target_return() == 1800
    tasks = [published, OfflineRlTask(), OfflineRlTask(hidden_velocities=True)]
    assert len({task.fingerprint() for task in tasks}) == 3
    assert OfflineRlTask().fingerprint() == OfflineRlTask().fingerprint()
