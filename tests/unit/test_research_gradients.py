"""A closed gate equals eviction, and the gradient of a gate equals a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from namm_mm.errors import UsageError
from namm_mm.evolution.prompts import Prompt
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.policies import Budget, Threshold, create
from namm_mm.records import Inputs, Sample
from namm_mm.testing.tiny import tiny_llama, tiny_tokens
from research.gradients.aggregation import examples_under_eviction
from research.gradients.answer_tokens import (
    AFTER,
    BEFORE,
    near_answer,
    with_sinks_and_recents,
)
from research.gradients.examples import Example, OpenGates, record
from research.gradients.gated_attention import gated
from research.gradients.imitation import FitSettings, fit, importance_kept
from research.gradients.straight_through import LARGEST_RATIO, StraightThrough, attend

pytestmark = pytest.mark.numeric

INTERVAL = 32


def busy_namm() -> Namm:
    """All parts of the network at work."""
    generator = torch.Generator().manual_seed(1)
    vector = 0.3 * torch.randn(4172, generator=generator)
    return replace(Namm.from_pretrained("provisional"), parameters=vector, interval=INTERVAL)


def evicting(
    vector: torch.Tensor, threshold: float = 0.0, fraction: float | None = None
) -> StraightThrough:
    return StraightThrough(
        busy_namm(), vector, INTERVAL, threshold=threshold, fraction=fraction, temperature=0.5
    )


@pytest.mark.parametrize("fraction", [None, 0.3])
def test_the_forward_pass_is_eviction_per_head(fraction: float | None) -> None:
    """The same logits at every position as under the memory, and the same tokens."""
    namm, model, tokens = busy_namm(), tiny_llama(), tiny_tokens(1, 150)
    ours = evicting(namm.parameters, fraction=fraction)
    selection = Threshold() if fraction is None else Budget(fraction=fraction)
    policy = create("namm", checkpoint=namm, budget=selection, state="float32")
    with torch.no_grad():
        with gated(model, ours):
            hard = model(tokens, use_cache=False).logits
        with attach(model, policy, interval=INTERVAL, storage="per_head") as memory:
            expected = model(tokens).logits
        full = model(tokens, use_cache=False).logits
        with gated(model, evicting(namm.parameters, float("-inf"))):
            held = model(tokens, use_cache=False).logits
    torch.testing.assert_close(held, full, atol=1e-4, rtol=1e-4)
    assert memory.usage().tokens_final < 100
    torch.testing.assert_close(hard, expected, atol=2e-4, rtol=1e-3)
    assert float((hard - full).abs().max()) > 0.1
    updates = len(ours.gates) // memory.layers
    for layer in range(memory.layers):
        gates = ours.gates[layer * updates + updates - 1]
        for gate, kept in zip(gates, memory.kept(layer), strict=True):
            assert gate.nonzero().flatten().tolist() == [at for at in kept.tolist() if at < 128]


def test_the_gradient_of_a_gate_is_the_effect_of_the_reversed_decision() -> None:
    """Of attention's output, exactly: held tokens dropped, and those that are gone had back."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 4, 8, generator=generator)
    key, value = torch.randn(2, 2, 10, 8, generator=generator).unbind(0)
    wanted = torch.randn(2, 3, 4, 8, generator=generator)
    gate = (torch.rand(2, 10, generator=generator) > 0.4).float()
    gate[:, 6:] = 1.0  # the block's own tokens

    def out(gates: torch.Tensor) -> torch.Tensor:
        return attend(query, key, value, gates, 0.3)[0]

    asked = gate.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((out(asked) * wanted).sum(), asked)
    for head in range(2):
        for slot in range(6):
            other = gate.clone()
            other[head, slot] = 1.0 - other[head, slot]
            changed = float(((out(other) - out(gate)) * wanted).sum())
            sign = 1.0 if gate[head, slot] == 0 else -1.0
            assert float(gradient[head, slot]) == pytest.approx(sign * changed, abs=1e-4), (
                head,
                slot,
            )
    assert LARGEST_RATIO > 1  # or the clamp would have shown above


def test_gradients_of_queries_keys_and_values_are_those_of_masked_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, 2, 4, 8, generator=generator)]
    parts += [torch.randn(1, 10, 8, generator=generator) for _ in range(2)]
    gate = (torch.rand(1, 10, generator=generator) > 0.3).float()
    gate[:, 6:] = 1.0
    wanted = torch.randn(1, 2, 4, 8, generator=generator)
    hidden = torch.ones(4, 10, dtype=torch.bool).triu(7) | (gate[0] == 0)

    def gradients(plain: bool) -> tuple[torch.Tensor, ...]:
        query, key, value = (part.clone().requires_grad_() for part in parts)
        if plain:
            logits = 0.3 * query @ key[:, None].transpose(-1, -2)
            out = logits.masked_fill(hidden, float("-inf")).softmax(-1) @ value[:, None]
        else:
            out = attend(query, key, value, gate, 0.3)[0]
        return torch.autograd.grad((out * wanted).sum(), (query, key, value))

    for ours, expected in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(ours, expected)


def test_gradients_reach_every_part_of_a_namm() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 150)
    vector = torch.nn.Parameter(busy_namm().parameters.clone())
    ours = evicting(vector)
    with gated(model, ours):
        logits = model(tokens, use_cache=False).logits
    (
        logits.log_softmax(-1)[0, -1, 3] + torch.cat([g.mean(1) for g in ours.gates]).mean()
    ).backward()
    assert vector.grad is not None
    for name, part in LAYOUTS["bam"].split(vector.grad).items():
        assert float(part.abs().max()) > 0, name


def prompt(tokens: torch.Tensor, answer: tuple[int, ...]) -> Prompt:
    inputs = Inputs({"input_ids": tokens}, (), Sample(id="one", family="any"))
    return Prompt(inputs, answer, "digest")


def test_importance_is_the_gradient_of_the_answer_by_a_gate() -> None:
    """Closing one gate a little changes the answer by its gradient."""
    model, tokens, step = tiny_llama().double(), tiny_tokens(1, 100), 1e-3
    answer = (5, 9)
    shown = record(model, prompt(tokens, answer), Spectrogram(), INTERVAL)
    assert [one.spectrum.shape[1] for one in shown] == [32, 64, 96]
    whole = torch.cat([tokens, torch.tensor([[5]])], dim=1)

    class Closing(OpenGates):
        """Closes one gate of layer 0, head 1 from the second block on."""

        def __init__(self, slot: int, by: float) -> None:
            super().__init__(Spectrogram(), INTERVAL)
            self.slot, self.by = slot, by

        def log_gates(self, slots: int) -> torch.Tensor:
            gates = torch.zeros(self.heads, slots)
            if len(self.spectra) == 1 and slots > INTERVAL:
                gates[1, self.slot] = self.by
            return gates

    def said(slot: int, by: float) -> float:
        with torch.no_grad(), gated(model, Closing(slot, by)):
            logits = model(whole, use_cache=False, logits_to_keep=2).logits[0]
        return float(logits.log_softmax(-1).gather(1, torch.tensor([[5], [9]])).mean())

    differences = torch.tensor(
        [abs(said(slot, step) - said(slot, -step)) for slot in range(INTERVAL)]
    )
    ours = shown[0].importance[1]
    torch.testing.assert_close(
        ours / ours.sum(), (differences / differences.sum()).float(), atol=2e-3, rtol=2e-2
    )


def test_examples_under_eviction_hold_what_the_memory_holds() -> None:
    """Tokens and ages are the memory's own, and importance is that of the full cache."""
    namm, model, tokens = busy_namm(), tiny_llama(), tiny_tokens(1, 150)
    asked = prompt(tokens, (5,))
    full = record(model, asked, namm.spectrogram, INTERVAL)
    shown = examples_under_eviction(model, asked, namm, full)
    assert [one.seen for one in shown] == [one.seen for one in full] == [32, 64, 96, 128]
    torch.testing.assert_close(shown[0].spectrum, full[0].spectrum)  # nothing was forgotten yet
    policy = create("namm", checkpoint=namm, state="float32")
    with torch.no_grad(), attach(model, policy, interval=INTERVAL, storage="per_head") as memory:
        model(tokens[:, :127])  # up to the last update
    held = [head.tolist() for layer in range(memory.layers) for head in memory.kept(layer)]
    last = shown[-1]
    assert [[place for place in head if place >= 0] for head in last.tokens.tolist()] == [
        [*head, 127] for head in held
    ]
    left = last.tokens >= 0
    importance = torch.stack(
        [
            known[tokens.clamp_min(0)]
            for known, tokens in zip(full[-1].importance, last.tokens, strict=True)
        ]
    )
    expected = importance.where(left, 0.0)
    torch.testing.assert_close(last.importance, expected / expected.sum())


def test_an_answer_needs_the_tokens_around_its_occurrence() -> None:
    class Letters:
        def decode(self, ids: list[int]) -> str:
            return chr(ids[0])

    text = "x" * 30 + "key 42 is it" + "y" * 30
    tokens = torch.tensor([[ord(letter) for letter in text]])
    sample = Sample(id="one", family="any", answer="42")
    mask = near_answer(Letters(), Prompt(Inputs({"input_ids": tokens}, (), sample), (1,), "digest"))
    at = text.index("42")
    assert mask.nonzero().flatten().tolist() == list(range(at - BEFORE, at + 2 + AFTER))
    both = with_sinks_and_recents(mask, seen=20)
    assert both[:4].all()
    assert both[12:20].all()
    assert not both[4:12].any()


@pytest.mark.slow
def test_a_fit_finds_what_its_start_misses() -> None:
    """Importance that follows a high band is learned by a start that sees the mean alone."""
    generator = torch.Generator().manual_seed(0)
    start = Namm.from_pretrained("provisional")
    spectra = torch.rand(24, 4, 64, 17, generator=generator) * start.variance.sqrt()
    shown = []
    for spectrum in spectra:
        wanted = (spectrum[..., 9] / start.variance[9].sqrt()).pow(8)
        shown.append(Example(spectrum.half(), wanted / wanted.sum()))
    settings = FitSettings(steps=400, fraction=0.3, learning_rate=5e-3, seed=1)
    vector = fit(start, shown[6:], shown[4:6], settings)
    before, after = (
        importance_kept(namm, shown[:4], 0.3) for namm in (start, replace(start, parameters=vector))
    )
    assert after > before + 0.2
    settings = FitSettings(steps=100, fraction=0.3, learning_rate=30.0)
    diverged = fit(start, shown[6:], shown[4:6], settings)
    # Steps of such a length lead nowhere; the best that was seen is returned all the same.
    best = importance_kept(replace(start, parameters=diverged), shown[4:6], 0.35)
    assert best >= importance_kept(start, shown[4:6], 0.35)
    with pytest.raises(UsageError, match="nothing to fit"):
        fit(start, [], shown)


@pytest.mark.gpu
def test_gradients_on_a_gpu_are_those_of_the_cpu() -> None:
    namm, model, tokens = busy_namm(), tiny_llama(), tiny_tokens(1, 150)

    def gradient(device: str) -> torch.Tensor:
        vector = namm.parameters.to(device, copy=True).requires_grad_()
        ours = evicting(vector, fraction=0.3)
        with gated(model.to(device), ours):
            loss = model(tokens.to(device), use_cache=False).logits.logsumexp(-1).mean()
        return torch.autograd.grad(loss, vector)[0].cpu()

    expected = gradient("cpu")
    torch.testing.assert_close(
        gradient("cuda"), expected, atol=1e-3 * float(expected.norm()), rtol=0
    )
