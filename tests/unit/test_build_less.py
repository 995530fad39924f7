"""Kernels of LESS are trained on what a policy really evicts, and a stopped build goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.residuals.less import load_kernels
from namm_mm.testing.tiny import tiny_llama, tiny_tokens
from research.builders.text.less import HELD_OUT, LessTraining, train_model
from research.residuals import recording, training

pytestmark = pytest.mark.numeric


def test_a_layer_sees_what_the_memory_keeps() -> None:
    """The dense mask gives the attention output that the memory gives."""
    model, policy = tiny_llama(), create("h2o", budget="tokens:12")
    tokens = tiny_tokens(1, 96)
    recorded = recording.record(model, [tokens])
    seen = recording.visible(recorded[0][0], policy, 32, 0, 2)
    assert seen.shape == (3, 2, 96)
    assert seen[0].sum(1).tolist() == [32, 32]
    assert seen[2].sum(1).tolist() == [44, 44]
    with torch.no_grad(), attach(model, policy, interval=32) as memory:
        model(tokens[:, :64])
    for head, kept in enumerate(memory.kept(0)):
        assert seen[2][head, :64].nonzero().flatten().tolist() == kept.tolist()


def test_training_recovers_error_on_sequences_that_were_held_out() -> None:
    torch.manual_seed(0)
    model, policy = tiny_llama(), create("random", budget="tokens:6")
    recorded = recording.record(model, [tiny_tokens(1, 96, seed=s) for s in range(10)])[0]
    weight = model.model.layers[0].self_attn.o_proj.weight.detach().float()
    examples = [
        training.make_example(one, recording.visible(one, policy, 32, 0, 2), 32, weight)
        for one in recorded
    ]
    part = training.new_part(4, 2, recorded[0].keys.shape[2], 32, 8)
    part = training.train(part, examples[:8], 32, weight, epochs=30)
    with torch.no_grad():
        sparse = sum(training.error(e.sparse, e, 32, weight) for e in examples[8:])
        less = sum(
            training.error(training.joined(part, e, 32), e, 32, weight) for e in examples[8:]
        )
    assert float(less) < 0.97 * float(sparse)


def test_a_stopped_build_goes_on_with_the_next_layer(tmp_path: Path) -> None:
    model = tiny_llama()
    settings = LessTraining("tiny", "recency", 0.2, 2, 64, 32, hidden=4, features=2, epochs=1)
    given = [tiny_tokens(1, 64, seed=s) for s in range(2 + HELD_OUT)]
    file = tmp_path / "less.safetensors"
    said: list[str] = []
    train_model(model, given, settings, file, said.append)
    (tmp_path / "less.layers" / "01.safetensors").unlink()
    first = load_kernels(file)
    said.clear()
    train_model(model, given, settings, file, said.append)
    assert [line.partition(":")[0] for line in said[1:]] == ["layer 1"]
    again = load_kernels(file)
    assert again.card["policy"] == "recency"
    assert len(again.card["layers"]) == 2
    for before, after in zip(first.parts, again.parts, strict=True):
        torch.testing.assert_close(before["a1"], after["a1"], rtol=1e-2, atol=1e-3)
