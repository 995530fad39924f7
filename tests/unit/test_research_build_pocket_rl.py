"""The bundled control models are what their cards say, and can be made again, also in two goes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.errors import RunError, UsageError
from namm_mm.models.cards import BUNDLED, verify
from namm_mm.records import Sample
from namm_mm.tasks.offline_rl import OfflineRlTask, Trajectories, read_dataset
from namm_mm.tasks.offline_rl.data import read_facts
from research.builders.control import pocket
from research.builders.control.behaviour import BehaviourPolicy, evaluate, rollout
from research.builders.control.pocket import BuildPocketRl, build_model
from research.builders.control.pocket_models import MODELS, Mixture, PocketModel
from research.builders.control.ppo import PolicyTraining, train_policies
from research.builders.control.selection import best_update, select
from research.builders.control.training import TrainingSettings, checkpoint_folder, train
from research.builders.control.windows import Windows

HOPPER = BUNDLED / "pocket_rl_hopper"
TINY = TrainingSettings(window=3, width=8, layers=1, batch=4, updates=4, warmup=2, every=2)


def medium() -> BehaviourPolicy:
    return BehaviourPolicy.load(HOPPER / "medium.npz")


def slice_of_data() -> Trajectories:
    return read_dataset(HOPPER / "medium_slice.hdf5", state_dim=11, action_dim=3)


@pytest.mark.parametrize("name", [name for name in MODELS if (BUNDLED / name).is_dir()])
def test_a_bundled_model_is_whole_small_and_honest_about_its_data(name: str) -> None:
    card = verify(BUNDLED / name)
    assert card["licence"] == "Apache-2.0"
    assert "not D4RL" in card["data"]["origin"]
    assert card["made_by"] == f"namm-mm build pocket-rl asset={name}"
    scores = {int(update): score for update, score in card["selection"]["scores"].items()}
    earliest = bool(MODELS[name].earliest_of)
    assert best_update(scores, earliest=earliest) == card["selection"]["chosen_update"]
    assert sum(path.stat().st_size for path in (BUNDLED / name).iterdir()) < 2_000_000


def test_the_bundled_policies_and_data_are_what_they_are_called() -> None:
    expert = BehaviourPolicy.load(HOPPER / "expert.npz")
    assert evaluate(expert, "Hopper-v5", seeds=(7,)) > 3000
    assert 800 < evaluate(medium(), "Hopper-v5", seeds=(7, 8)) < 1500
    for quality, low, high in (("medium", 700, 1600), ("expert", 3200, 3400)):
        path = HOPPER / f"{quality}_slice.hdf5"
        data = read_dataset(path, state_dim=11, action_dim=3)
        assert low < data.returns.mean() < high
        assert "not D4RL" in read_facts(path)["origin"]


def test_data_is_made_again_to_the_last_bit_and_short_episodes_are_not_preferred() -> None:
    def short(seed: int) -> Trajectories:
        return rollout(medium(), "Hopper-v5", transitions=150, noise=3.0, seed=seed, parallel=3)

    first, second = short(5), short(5)
    np.testing.assert_array_equal(first.observations, second.observations)
    np.testing.assert_array_equal(first.actions, second.actions)
    assert not np.array_equal(first.observations[:20], short(6).observations[:20])
    alone = rollout(medium(), "Hopper-v5", transitions=1, noise=0.0, seed=5, parallel=1)
    many = rollout(medium(), "Hopper-v5", transitions=1, noise=0.0, seed=5, parallel=3)
    np.testing.assert_allclose(alone.rewards, many.rewards[: len(alone)], rtol=1e-5)
    assert many.bounds[0] == alone.bounds[0]  # the first seed's episode, whichever ended first


def test_windows_hold_the_steps_up_to_one_and_never_another_episode() -> None:
    data = slice_of_data()
    windows = Windows(data, window=5)
    batch = windows.draw(300, np.random.default_rng(0))
    mask = batch["attention_mask"]
    assert mask[:, -1].all()
    assert 0 < (mask[:, 0] == 0).sum() < 300
    states = batch["states"] * windows.deviation + windows.mean
    for row in range(300):
        steps = batch["timesteps"][row]
        real = mask[row].astype(bool)
        assert (np.diff(steps[real]) == 1).all()
        (at,) = np.flatnonzero((np.abs(data.observations - states[row, -1]) < 1e-4).all(axis=1))
        start, end = next((a, b) for a, b in data.bounds if a <= at < b)
        assert steps[-1] == at - start
        np.testing.assert_allclose(
            batch["returns_to_go"][row, -1, 0], data.rewards[at:end].sum() / 1000, rtol=1e-4
        )
        count = int(real.sum())
        np.testing.assert_array_equal(
            batch["actions"][row][real], data.actions[at + 1 - count : at + 1]
        )


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    data = slice_of_data()
    train(data, tmp_path / "whole", TINY)

    def stop(update: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "parts", TINY, on_checkpoint=stop)
    told: list[int] = []
    updates = train(
        data, tmp_path / "parts", TINY, on_checkpoint=lambda update, loss: told.append(update)
    )
    assert updates == [2, 4]
    assert told == [4]
    whole, parts = (
        (checkpoint_folder(tmp_path / name, 4) / "model.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts
    other = replace(TINY, seed=1)
    train(data, tmp_path / "parts", other)  # other settings begin anew
    assert (checkpoint_folder(tmp_path / "parts", 4) / "model.safetensors").read_bytes() != whole


def test_weights_in_half_precision_are_those_of_single_precision_in_half_the_bytes(
    tmp_path: Path,
) -> None:
    files = []
    for stored in ("float32", "float16"):
        settings = replace(TINY, heads=2, stored=stored)
        (update,) = train(slice_of_data(), tmp_path / stored, replace(settings, updates=2))
        folder = checkpoint_folder(tmp_path / stored, update)
        adapter = DecisionTransformerAdapter(str(folder))
        adapter.load()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert config["n_head"] == 2
        files.append((folder / "model.safetensors", adapter.model.state_dict()))
    (whole, exact), (half, rounded) = files
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        torch.testing.assert_close(rounded[name], value, rtol=1e-3, atol=1e-6)


def test_models_with_several_heads_differ_in_their_training_alone() -> None:
    one, four = MODELS["pocket_rl_hopper_orders"], MODELS["pocket_rl_hopper_orders_4_seed1"]
    assert (four.training.heads, four.training.seed) == (4, 1)
    assert replace(four, asset=one.asset, training=one.training) == one


def test_selection_plays_validation_seeds_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = train(slice_of_data(), tmp_path, TINY)
    task = OfflineRlTask(max_steps=4)
    asked: list[str] = []
    draw = task.samples

    def samples(split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        asked.append(split)
        return draw(split, limit, seed)

    monkeypatch.setattr(task, "samples", samples)
    scores = select(tmp_path, updates, task, episodes=2)
    assert set(scores) == {2, 4}
    assert set(asked) == {"validation"}
    monkeypatch.delattr(OfflineRlTask, "play")
    assert select(tmp_path, updates, task, episodes=2) == scores


@pytest.mark.slow
def test_a_small_build_goes_from_snapshots_to_a_verified_asset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, said = tmp_path / "work", list[str]()
    model = PocketModel(
        "pocket_rl_test",
        "Hopper-v5",
        policy_steps=200,
        snapshot=100,
        mixture=Mixture(medium=1, expert=1, replay=2, medium_noise=4.0, expert_noise=4.0),
        training=TINY,
    )
    (work / "Hopper-v5").mkdir(parents=True)
    for steps in (100, 200):
        shutil.copy(HOPPER / "medium.npz", work / "Hopper-v5" / f"policy_0_{steps:07d}.npz")
    monkeypatch.setattr(pocket, "SELECTION_SEEDS", (1,))
    made = build_model(model, out=tmp_path / "asset", work=work, episodes=1, say=said.append)
    card = verify(made)
    assert set(card["data"]["parts"]) == {"medium", "expert", "replay"}
    assert set(card["selection"]["scores"]) == {"2", "4"}
    assert any("loss" in line for line in said)
    control = json.loads((made / "control.json").read_text())
    assert len(control["state_mean"]) == 11
    hidden = replace(
        model,
        hidden_velocities=True,
        asset="pocket_rl_test_hidden",
        training=replace(TINY, hidden_weight=0.5),
    )
    card = verify(build_model(hidden, out=tmp_path / "b", work=work, episodes=1, say=said.append))
    assert card["hidden_velocities"]
    assert len(json.loads((tmp_path / "b" / "control.json").read_text())["state_mean"]) == 5


def test_an_exported_policy_acts_as_the_trained_one(tmp_path: Path) -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason="the extra `build` is not installed")
    training = PolicyTraining("Hopper-v5", tmp_path, steps=2048, every=2048)
    (policy,) = train_policies(training)
    model = sb3.PPO.load(tmp_path / "ppo_0.zip", device="cpu")
    states = np.random.default_rng(0).normal(size=(6, 11)).astype(np.float32)
    normal = np.clip((states - policy.mean) / policy.deviation, -10, 10)
    expected, _ = model.predict(normal, deterministic=True)
    acted = policy.act(states, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(acted, np.clip(expected, -1, 1), atol=1e-5)
    assert policy.steps == 2048
    before = (tmp_path / "ppo_0.zip").stat().st_mtime_ns
    train_policies(training)  # nothing left to do
    assert (tmp_path / "ppo_0.zip").stat().st_mtime_ns == before


def test_what_cannot_be_built_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Did you mean 'pocket_rl_hopper'"):
        BuildPocketRl("pocket_rl_hoper", work=tmp_path).build()
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(RunError, match=r"pip install 'namm-mm\[build\]'"):
        train_policies(PolicyTraining("Hopper-v5", tmp_path))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"broken\.npz: not a behaviour policy"):
        BehaviourPolicy.load(tmp_path / "broken.npz")


def test_the_loss_of_the_hidden_part_teaches_the_transformer_itself(tmp_path: Path) -> None:
    data = slice_of_data()
    seen, hidden = replace(data, observations=data.observations[:, :5]), data.observations[:, 5:]
    weights = []
    for name, factor, shown in (("a", 0.0, hidden), ("b", 0.5, hidden), ("c", 0.5, hidden[::-1])):
        train(seen, tmp_path / name, replace(TINY, hidden_weight=factor), hidden=shown)
        weights.append((checkpoint_folder(tmp_path / name, 4) / "model.safetensors").read_bytes())
    assert len(set(weights)) == 3
    assert len({len(content) for content in weights}) == 1  # the head is not shipped


def test_shifted_windows_keep_their_order_and_lose_their_time() -> None:
    data = slice_of_data()
    plain, moved = (
        Windows(data, window=5, shifted=shifted).draw(400, np.random.default_rng(0))
        for shifted in (False, True)
    )
    np.testing.assert_array_equal(plain["states"], moved["states"])
    np.testing.assert_array_equal(np.diff(plain["timesteps"]), np.diff(moved["timesteps"]))
    assert moved["timesteps"].min() >= 0
    assert 950 < moved["timesteps"].max() < 1000
    assert abs(np.corrcoef(plain["timesteps"][:, -1], moved["timesteps"][:, -1])[0, 1]) < 0.2
