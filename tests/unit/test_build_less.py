"""Kernels of LESS are trained on what a policy really evicts, and a stopped build goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.residuals.less import LessKernels, load_kernels
from namm_mm.testing.tiny import tiny_llama, tiny_tokens
from research.builders.text.head_table import BuildHeadTable
from research.builders.text.less import BuildLess, LessTraining, train_model
from research.builders.text.trimkv import BuildTrimKV
from research.residuals import joint, recording, training
from research.residuals.material import HELD_OUT, Material, nats_after

pytestmark = pytest.mark.numeric


def given(model: Any, sequences: list[torch.Tensor]) -> Material:
    calls = [{"input_ids": tokens} for tokens in sequences]
    return Material(model, calls, 32, nats_after(32))


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


def test_a_sequence_may_end_within_an_interval() -> None:
    model, policy = tiny_llama(), create("h2o", budget="tokens:12")
    recorded = recording.record(model, [tiny_tokens(1, 106)])
    seen = recording.visible(recorded[0][0], policy, 32, 0, 2)
    assert seen.sum(2).tolist() == [[32, 32], [44, 44], [44, 44], [22, 22]]
    one = training.make_example(recorded[0][0], seen, 32, torch.eye(32))
    part = training.new_part(4, 2, recorded[0][0].keys.shape[2], 32, 8)
    assert training.joined(part, one, 32).shape == (4, 106, 8)


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


def test_the_dense_run_is_that_of_the_memory() -> None:
    """With states in all layers: the same logits as the memory with LESS."""
    torch.manual_seed(0)
    model, policy = tiny_llama(), create("recency", budget="tokens:12")
    parts = tuple(training.new_part(4, 2, 8, 16, 4) for _ in range(2))
    for part in parts:
        part["s1"].fill_(0.5)
    tokens = tiny_tokens(1, 96)
    (lesson,) = joint.make_lessons(given(model, [tokens]), policy)
    with torch.no_grad():
        with joint.evicting(model, parts, lesson, 32):
            dense = model(tokens, use_cache=False).logits
        less = create("less", over=policy, kernels=LessKernels(parts))
        with attach(model, less, interval=32):
            streamed = model(tokens).logits
        with attach(model, policy, interval=32):
            without = model(tokens).logits
    torch.testing.assert_close(dense, streamed, atol=2e-3, rtol=1e-3)
    assert float((dense - without).abs().max()) > 0.05


def test_layers_trained_together_come_closer_to_the_full_cache(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, policy = tiny_llama(), create("recency", budget="tokens:6")
    model.requires_grad_(False)
    lessons = list(
        joint.make_lessons(given(model, [tiny_tokens(1, 96, seed=s) for s in range(6)]), policy)
    )
    parts = tuple(training.new_part(4, 2, 8, 16, 4) for _ in range(2))
    course = joint.Course(tmp_path / "joint", 4, 32, 0)
    said: list[str] = []
    trained = joint.train(model, parts, lessons, course, said.append)
    before = joint.distance(model, joint.silent(parts), lessons, 32)
    assert joint.distance(model, trained, lessons, 32) < before
    assert len(said) == 4
    course.state(3).unlink()
    again = joint.train(model, parts, lessons, course, said.append)
    assert len(said) == 5
    for one, other in zip(trained, again, strict=True):
        torch.testing.assert_close(one["a1"], other["a1"], rtol=1e-2, atol=1e-3)


def test_a_stopped_build_goes_on_with_the_next_layer(tmp_path: Path) -> None:
    model = tiny_llama()
    settings = LessTraining(
        "tiny", "recency", 0.2, 2, hidden=4, features=2, epochs=1, joint_epochs=1
    )
    material = given(model, [tiny_tokens(1, 64, seed=s) for s in range(2 + HELD_OUT)])
    file = tmp_path / "less.safetensors"
    said: list[str] = []
    train_model(material, settings, file, said.append)
    (tmp_path / "less.layers" / "01.safetensors").unlink()
    first = load_kernels(file)
    said.clear()
    train_model(material, settings, file, said.append)
    assert [line.partition(":")[0] for line in said[1:]] == [
        *("layer 1", "held-out sequences, nats from the full cache"),
        "held-out sequences, nats from the full cache",
    ]
    again = load_kernels(file)
    assert again.card["policy"] == "recency"
    assert len(again.card["layers"]) == 2
    for before, after in zip(first.parts, again.parts, strict=True):
        torch.testing.assert_close(before["a1"], after["a1"], rtol=1e-2, atol=1e-3)
    with pytest.raises(UsageError, match="other settings"):
        train_model(material, replace(settings, policy="h2o"), file, said.append)


@pytest.mark.parametrize("builder", [BuildLess, BuildTrimKV, BuildHeadTable])
def test_the_bundled_file_is_not_replaced_by_one_of_another_model(
    builder: type[BuildLess | BuildTrimKV | BuildHeadTable],
) -> None:
    with pytest.raises(UsageError, match="out=FILE"):
        builder(model="nowhere/at-all").build()
