"""TrimKV: gates score as their formula says, are trained for one model, and refused on another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.cli import main
from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.memory.watch import Update
from namm_mm.policies import create
from namm_mm.policies.trim_gates import TrimGates, load_gates
from namm_mm.testing.tiny import tiny_llama, tiny_tokens
from research.builders.text import trimkv as builder
from research.builders.text.trimkv import BuildTrimKV

pytestmark = pytest.mark.numeric


def gates(width: int = 16) -> TrimGates:
    torch.manual_seed(0)
    return TrimGates(
        {
            "inner": torch.randn(2, 2, width, 4),
            "inner_bias": torch.randn(2, 2, 1, 4),
            "outer": torch.randn(2, 2, 4, 1),
            "outer_bias": torch.randn(2, 2, 1, 1),
        },
        {"model": "tiny"},
    )


def test_scores_are_age_times_log_retention() -> None:
    made, seen = gates(), []
    policy = create("trimkv", gates=made, budget="tokens:20")

    def watch(update: Update) -> None:
        seen.append(update)

    model: Any = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=32, watcher=watch):
        cache = model(tiny_tokens(1, 32), use_cache=True).past_key_values
    with torch.no_grad():
        plain = model(tiny_tokens(1, 32), use_cache=True).past_key_values
    assert cache is not plain
    for update in seen:
        held = plain.layers[update.layer]
        for head in range(2):
            both = torch.cat([held.keys[0, head], held.values[0, head]], -1).double()
            part = {n: t[update.layer, head].double() for n, t in made.tensors.items()}
            hidden = torch.nn.functional.gelu(both @ part["inner"] + part["inner_bias"])
            beta = torch.sigmoid(hidden @ part["outer"] + part["outer_bias"])[:, 0]
            age = 31 - torch.arange(32)
            expected = (age * beta.log()).float()
            torch.testing.assert_close(update.scores[0, head, :31], expected[:31])


def test_training_brings_what_is_retained_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "HELD_OUT", 1)
    model = tiny_llama()
    given = [tiny_tokens(1, 96, seed=seed) for seed in range(4)]

    def trained(epochs: int) -> list[float]:
        said: list[str] = []
        build = BuildTrimKV(epochs=epochs, hidden=4, capacity=0.25)
        made = build.train_model(model, given, said.append)
        assert made.shape == (2, 2, 16)
        assert len(said) == 2
        return [float(line.rsplit(", ", 1)[1].split()[0]) for line in said]

    before, after = trained(1), trained(150)
    assert sum(after) < sum(before) / 2


def test_gates_of_another_model_are_refused(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        pytest.raises(UsageError, match=r"do not fit the model.*those of tiny"),
        attach(tiny_llama(), create("trimkv", gates=gates(width=24))),
    ):
        pass
    monkeypatch.chdir(tiny)
    words = "evaluate adapter.model=nowhere/at-all policy=trimkv budget=fraction:0.5"
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "got 'nowhere/at-all', expected smollm2-135m-instruct" in said
    assert "anyway=true" in said
    assert main([*words.split(), "policy.gates=nothing"]) == 2
    assert "no such gates of trimkv" in capsys.readouterr().err
    broken = tmp_path / "gates.safetensors"
    broken.write_bytes(b"no")
    with pytest.raises(UsageError, match="cannot be read"):
        load_gates(broken)


def test_the_bundled_gates_are_of_the_bundled_model_and_small() -> None:
    made = load_gates("smollm2")
    assert made.shape == (30, 3, 128)
    assert made.card["model"] == "smollm2-135m-instruct"
    assert sum(tensor.numel() for tensor in made.tensors.values()) * 2 < 1_000_000
