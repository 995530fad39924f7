"""A NAMM is refined under the head sizes of a probe, and with several models in turn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.errors import UsageError
from namm_mm.evolution.prompts import Tokenized
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies import Budget, create
from namm_mm.tasks.long_text import LongTextTask
from namm_mm.testing.tiny import tiny_llama, tiny_tokens
from research.builders.text.refine import LOG, BuildRefine
from research.gradients.answer_gradients import Evaluation, Evaluator, Rule
from research.gradients.gated_attention import gated
from research.gradients.refinement_settings import RefinementSettings
from research.gradients.straight_through import StraightThrough, _above_limit

pytestmark = pytest.mark.numeric

INTERVAL, FRACTION = 32, 0.3


def test_the_forward_pass_is_eviction_with_the_sizes_of_a_probe() -> None:
    """The same logits at every position as under `probed(namm)`, and the same tokens."""
    generator = torch.Generator().manual_seed(1)
    vector = 0.3 * torch.randn(4172, generator=generator)
    namm = replace(Namm.from_pretrained("provisional"), parameters=vector, interval=INTERVAL)
    model, tokens = tiny_llama(), tiny_tokens(1, 150)
    below = create("namm", checkpoint=namm, state="float32")
    policy = create("probed", over=below, budget=Budget(fraction=FRACTION))
    with torch.no_grad():
        with attach(model, policy, interval=INTERVAL, storage="per_head") as memory:
            expected = model(tokens).logits
            assert isinstance(memory.policy.selection, Budget)
            need = memory.policy.selection.need
        ours = StraightThrough(
            namm, vector, INTERVAL, fraction=FRACTION, need=need, temperature=0.5
        )
        with gated(model, ours):
            hard = model(tokens, use_cache=False).logits
    torch.testing.assert_close(hard, expected, atol=2e-4, rtol=1e-3)
    updates = len(ours.gates) // memory.layers
    sizes = set()
    for layer in range(memory.layers):
        gates = ours.gates[layer * updates + updates - 1]
        for gate, kept in zip(gates, memory.kept(layer), strict=True):
            found = gate.nonzero().flatten().tolist()
            assert found == [at for at in kept.tolist() if at < gate.shape[0]]
            sizes.add(len(found))
    assert len(sizes) > 1  # heads differ


def test_a_head_that_keeps_all_its_tokens_has_no_gradient() -> None:
    scores = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept = torch.ones(2, 8, dtype=torch.bool)
    above, stays = _above_limit(scores, kept, torch.tensor([[8], [3]]), 0.5)
    assert stays.sum(1).tolist() == [8, 3]
    (gradient,) = torch.autograd.grad(torch.sigmoid(above)[:, 2].sum(), scores)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_the_sizes_of_a_probe_have_the_mean_that_was_asked_for(tiny: Path) -> None:
    adapter = TextAdapter(model=str(tiny / "text"))
    adapter.load()
    (sample,) = LongTextTask(families=("passkey",), words=100).samples("train", 1, 0)
    namm = Namm.from_pretrained(tiny / "namm.safetensors")
    evaluator = Evaluator(Tokenized(adapter), namm)
    equal, probed = (
        evaluator(
            Evaluation.make(
                sample, namm.parameters, Rule(0.0, 0.3, probed), interval=64, gradient=True
            )
        )
        for probed in (False, True)
    )
    assert probed["kept"] == pytest.approx(0.3, abs=0.01)
    assert probed["value"] != equal["value"]
    assert probed["gradient"].any()


@pytest.mark.slow
def test_several_models_read_the_prompts_in_turn(tiny: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny / "text", tmp_path / "other")
    out = tmp_path / "run"
    path = BuildRefine(
        out=out,
        start=str(tiny / "namm.safetensors"),
        model=[str(tiny / "text"), str(other)],
        dtype="float32",
        families=["passkey", "cloze"],
        words=100,
        equal_sizes=0.25,
        probed_sizes=0.5,
        fractions=(0.1, 0.4),
        intervals=[64],
        steps=1,
        batch_size=2,
        validation_prompts=2,
        validation_fractions=(0.1, 0.2),
    ).build(lambda line: None)
    first = json.loads((out / LOG).read_text().splitlines()[0])
    rules = {f"{rule}at {part}" for rule in ("", "equal ", "probed ") for part in (0.1, 0.2)}
    assert rules < set(first)
    card = Namm.from_pretrained(path).card
    assert f"through {tiny / 'text'} and {other}, from" in card["about"]
    assert "probed_sizes=0.5 fractions=[0.1,0.4]" in card["made_by"]
    assert f"model=[{tiny / 'text'},{other}]" in card["made_by"]
    assert "full: nats to the full cache, fractions .10 and .20" in card["scores"]


def test_sizes_that_are_more_than_all_prompts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"wrong sum of equal_sizes and probed_sizes: got 1\.5"):
        RefinementSettings(equal_sizes=0.75, probed_sizes=0.75)
