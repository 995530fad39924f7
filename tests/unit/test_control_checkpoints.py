"""Decision Transformers from folders and the hub: statistics, options, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from control_checkpoints import save_model
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.adapters.control.facts import CONTROL_FILE
from namm_mm.adapters.control.statistics import (
    STATE_STATISTICS,
    published_statistics,
)
from namm_mm.errors import RunError, UsageError

pytestmark = pytest.mark.numeric


def test_published_statistics_have_the_dimensions_of_their_bodies() -> None:
    assert len(STATE_STATISTICS) == 9
    for name, (mean, deviation) in STATE_STATISTICS.items():
        assert len(mean) == len(deviation) == (11 if name.startswith("hopper") else 17), name
        assert min(deviation) > 0
    hub = published_statistics("edbeeching/decision-transformer-gym-walker2d-expert")
    assert hub == STATE_STATISTICS["walker2d-expert"]
    assert published_statistics("edbeeching/decision-transformer-gym-ant") is None


def test_a_published_checkpoint_in_a_local_folder_gets_its_statistics(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "decision-transformer-gym-hopper-medium")
    (folder / CONTROL_FILE).unlink()
    with pytest.raises(UsageError, match=r"11 means, 11 deviations.*expected 5"):
        DecisionTransformerAdapter(str(folder), device="cpu").load()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float8"}, "unknown dtype"),
        ({"history": "cache"}, "history is gone"),
        ({"state_mean": [0.0]}, "give both"),
    ],
)
def test_wrong_options_are_refused_when_the_adapter_is_made(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        DecisionTransformerAdapter(**options)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        ("control", RunError, "control.json is damaged"),
        ("weights", RunError, "cannot load the weights"),
        ("statistics", UsageError, "no statistics"),
        ("class", UsageError, "not a Decision Transformer.*'llama'"),
        ("lack", RunError, "lack"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, damage: str, error: type[Exception], words: str
) -> None:
    folder = save_model(tmp_path / "dt")
    weights = folder / "model.safetensors"
    if damage == "control":
        (folder / CONTROL_FILE).write_text('{"state_mean": [0.0]')
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "statistics":
        (folder / CONTROL_FILE).unlink()
    elif damage == "class":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        del tensors["predict_action.0.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(error, match=words):
        DecisionTransformerAdapter(str(folder), device="cpu").load()


def test_the_old_option_names_the_policy_and_an_absent_device_is_named(tmp_path: Path) -> None:
    folder = str(save_model(tmp_path / "dt"))
    with pytest.raises(UsageError, match=r"history is gone: got 'window'.*policies=\[window\]"):
        DecisionTransformerAdapter(folder, history="window")
    with pytest.raises(UsageError, match="not loaded"):
        _ = DecisionTransformerAdapter(folder).backbone
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device is absent"):
            DecisionTransformerAdapter(folder, device="cuda").load()


def _publish(folder: Path, state: int, action: int) -> DecisionTransformerModel:
    """Lay a small model out as the hub holds the published ones: old fields, a pickle, old buffers.

    Their weights were saved by a transformers whose attention kept its causal mask as buffers, and
    their configuration names a width that no layer has.
    """
    torch.manual_seed(5)
    config = DecisionTransformerConfig(
        state_dim=state,
        act_dim=action,
        hidden_size=8,
        n_layer=3,
        n_head=1,
        n_positions=1024,
        max_ep_len=1000,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = DecisionTransformerModel(config)
    plain = {
        **config.to_dict(),
        "architectures": ["DecisionTransformerModel"],
        "model_type": "decision_transformer",
        "bos_token_id": 50256,
        "eos_token_id": 50256,
        "n_embd": 768,
        "max_length": 20,
        "action_tanh": True,
        "activation_function": "relu",
    }
    weights = dict(model.state_dict())
    for layer in range(3):
        mask = torch.ones(1024, 1024, dtype=torch.uint8).tril()[None, None]
        weights[f"encoder.h.{layer}.attn.bias"] = mask
        weights[f"encoder.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(plain))
    torch.save(weights, folder / "pytorch_model.bin")
    model.train(False)
    return model


@pytest.mark.parametrize("name", ["hopper-medium", "halfcheetah-medium-replay", "walker2d-expert"])
def test_a_published_checkpoint_acts_from_the_hub_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its hub id, with its card's statistics, as the plain model acts on the same numbers."""
    hub = f"edbeeching/decision-transformer-gym-{name}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / f"models--{hub.replace('/', '--')}"
    state, action = (11, 3) if name.startswith("hopper") else (17, 6)
    model = _publish(home / "snapshots" / "abc", state, action)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    adapter = DecisionTransformerAdapter(hub, device="cpu")
    adapter.load()
    assert adapter.dimensions == (state, action)
    assert adapter.control_facts.window == 20
    mean, deviation = (np.asarray(part, dtype=np.float32) for part in STATE_STATISTICS[name])
    seen = np.random.default_rng(0).standard_normal((1, state)).astype(np.float32) * deviation
    agent = adapter.agent(1, None, target_return=3600.0)
    acted = agent.act(mean + seen, np.zeros(1, np.float32), np.ones(1, np.bool_))
    with torch.inference_mode():
        expected = model(
            states=torch.from_numpy(seen / deviation)[:, None],
            actions=torch.zeros(1, 1, action),
            rewards=torch.zeros(1, 1, 1),
            returns_to_go=torch.full((1, 1, 1), 3.6),
            timesteps=torch.zeros(1, 1, dtype=torch.long),
            attention_mask=torch.ones(1, 1),
        ).action_preds[:, -1]
    np.testing.assert_allclose(acted, expected.numpy(), atol=1e-5)
