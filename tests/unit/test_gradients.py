"""Gates stand for forgetting: closed ones equal eviction, and slopes equal differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from namm_mm.errors import UsageError
from namm_mm.evolution.gated_attention import gated
from namm_mm.evolution.imitation import fit, held
from namm_mm.evolution.importance import Shown, _Recorder, record
from namm_mm.evolution.needed import AFTER, LEAD, needed, wanted
from namm_mm.evolution.prompts import Prompt
from namm_mm.evolution.revisit import revisit
from namm_mm.evolution.soft_forgetting import SoftForgetting
from namm_mm.memory import attach
from namm_mm.namm import Namm, load
from namm_mm.namm.params import LAYOUTS
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.policies import create
from namm_mm.records import Inputs, Sample
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

INTERVAL = 32


def busy_namm() -> Namm:
    """All parts of the network at work."""
    generator = torch.Generator().manual_seed(1)
    vector = 0.3 * torch.randn(4172, generator=generator)
    return replace(load("provisional"), parameters=vector, interval=INTERVAL)


def test_hard_gates_equal_eviction_per_head() -> None:
    """At temperature 0 the soft model is the memory's: the same logits at every position."""
    namm, model, tokens = busy_namm(), tiny_llama(), tiny_tokens(1, 150)
    forgetting = SoftForgetting(namm, namm.parameters, INTERVAL, temperature=1e-6, noise=0.0)
    policy = create("namm", checkpoint=namm)
    with torch.no_grad():
        with gated(model, forgetting):
            soft = model(tokens, use_cache=False).logits
        with attach(model, policy, interval=INTERVAL, storage="per_head") as memory:
            hard = model(tokens).logits
        full = model(tokens, use_cache=False).logits
    assert memory.usage().tokens_final < 100
    torch.testing.assert_close(soft, hard, atol=2e-4, rtol=1e-3)
    assert float((soft - full).abs().max()) > 0.1


def test_soft_gates_carry_gradients_to_every_part() -> None:
    namm, model, tokens = busy_namm(), tiny_llama(), tiny_tokens(1, 150)
    vector = torch.nn.Parameter(namm.parameters.clone())
    forgetting = SoftForgetting(namm, vector, INTERVAL, generator=torch.Generator().manual_seed(0))
    with gated(model, forgetting):
        logits = model(tokens, use_cache=False).logits
    (logits.log_softmax(-1)[0, -1, 3] + torch.stack(forgetting.kept).mean()).backward()
    assert vector.grad is not None
    for name, part in LAYOUTS["bam"].split(vector.grad).items():
        assert float(part.abs().max()) > 0, name


def prompt(tokens: torch.Tensor, answer: tuple[int, ...]) -> Prompt:
    inputs = Inputs({"input_ids": tokens}, (), Sample(id="one", family="any"))
    return Prompt(inputs, answer, "digest")


def test_importance_is_the_slope_of_the_answer_along_a_gate() -> None:
    """Closing one gate a little changes the answer by what its slope says."""
    model, tokens, step = tiny_llama().double(), tiny_tokens(1, 100), 1e-3
    answer = (5, 9)
    shown = record(model, prompt(tokens, answer), Spectrogram(), INTERVAL)
    assert [one.spectrum.shape[1] for one in shown] == [32, 64, 96]
    whole = torch.cat([tokens, torch.tensor([[5]])], dim=1)

    class Closing(_Recorder):
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

    slopes = torch.tensor([abs(said(slot, step) - said(slot, -step)) for slot in range(INTERVAL)])
    ours = shown[0].importance[1]
    torch.testing.assert_close(
        ours / ours.sum(), (slopes / slopes.sum()).float(), atol=2e-3, rtol=2e-2
    )


def test_what_a_namm_is_shown_while_it_forgets_is_what_the_memory_holds() -> None:
    """Tokens and ages are the memory's own, and importance is that of the full cache."""
    namm, model, tokens = busy_namm(), tiny_llama(), tiny_tokens(1, 150)
    asked = prompt(tokens, (5,))
    full = record(model, asked, namm.spectrogram, INTERVAL)
    shown = revisit(model, asked, namm, full)
    assert [one.seen for one in shown] == [one.seen for one in full] == [32, 64, 96, 128]
    torch.testing.assert_close(shown[0].spectrum, full[0].spectrum)  # nothing was forgotten yet
    policy = create("namm", checkpoint=namm)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL, storage="per_head") as memory:
        model(tokens[:, :127])  # up to the last update
    held = [head.tolist() for layer in range(memory.layers) for head in memory.kept(layer)]
    last = shown[-1]
    assert [[place for place in head if place >= 0] for head in last.places.tolist()] == [
        [*head, 127] for head in held
    ]
    left = last.places >= 0
    slopes = torch.stack(
        [
            known[places.clamp_min(0)]
            for known, places in zip(full[-1].importance, last.places, strict=True)
        ]
    )
    expected = slopes.where(left, 0.0)
    torch.testing.assert_close(last.importance, expected / expected.sum())


def test_what_an_answer_needs_is_where_the_prompt_says_it() -> None:
    class Letters:
        def decode(self, ids: list[int]) -> str:
            return chr(ids[0])

    text = "x" * 30 + "key 42 is it" + "y" * 30
    tokens = torch.tensor([[ord(letter) for letter in text]])
    sample = Sample(id="one", family="any", answer="42")
    mask = needed(Letters(), Prompt(Inputs({"input_ids": tokens}, (), sample), (1,), "digest"))
    at = text.index("42")
    assert mask.nonzero().flatten().tolist() == list(range(at - LEAD, at + 2 + AFTER))
    both = wanted(mask, seen=20)
    assert both[:4].all()
    assert both[12:20].all()
    assert not both[4:12].any()


def test_a_fit_finds_what_its_start_misses() -> None:
    """Importance that follows a high band is learned by a start that sees the mean alone."""
    generator = torch.Generator().manual_seed(0)
    start = load("provisional")
    spectra = torch.rand(24, 4, 64, 17, generator=generator) * start.variance.sqrt()
    shown = []
    for spectrum in spectra:
        wanted = (spectrum[..., 9] / start.variance[9].sqrt()).pow(8)
        shown.append(Shown(spectrum.half(), wanted / wanted.sum()))
    vector = fit(start, shown[6:], shown[4:6], steps=400, size=0.3, rate=5e-3, seed=1)
    before, after = (
        held(namm, shown[:4], 0.3) for namm in (start, replace(start, parameters=vector))
    )
    assert after > before + 0.2
    apart = fit(start, shown[6:], shown[4:6], steps=100, size=0.3, rate=30.0)
    # Steps of such a length lead nowhere; the best that was seen is returned all the same.
    assert held(replace(start, parameters=apart), shown[4:6], 0.35) >= held(start, shown[4:6], 0.35)
    with pytest.raises(UsageError, match="nothing to fit"):
        fit(start, [], shown)
