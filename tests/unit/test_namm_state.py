"""What a NAMM remembers of a token takes 34 bytes, and its decisions stay those of float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.namm.codes import Opened, StateCodes
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies import H2O, NammPolicy, Policy
from namm_mm.policies.base import LayerView
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

GENERAL = Namm.from_pretrained("general")


def folded(observation: SpectrogramOf, attention: Tensor, calls: int) -> Tensor:
    """What is read after the attention (query, slot) came in so many calls."""
    state = observation.initial(1, 1, attention.shape[1], "cpu")
    for part in attention[None, None].chunk(calls, dim=2):
        state = observation.closed(observation.fold(observation.opened(state), part))
    return observation.read(state)[0, 0]


def coded(codes: StateCodes, means: Tensor, weights: Tensor) -> Opened:
    """What is left of means (row, head, bin, slot) and weights (row, head, hop, slot)."""
    turn = torch.zeros(*means.shape[:2], 1, means.shape[3], dtype=torch.uint8)
    return codes.unpack(codes.pack(Opened(means, weights, turn)))


def test_the_state_takes_34_bytes_a_token_and_its_zeros_are_no_attention() -> None:
    assert NammPolicy().bytes_per_token == 34
    assert NammPolicy(state="float32").bytes_per_token == 132
    for name in ("general", "evolved_relative"):
        codes = Namm.from_pretrained(name).codes
        found = codes.unpack(torch.zeros(1, 2, 5, 34, dtype=torch.uint8))
        assert not any(part.any() for part in found)
        packed = codes.pack(found)
        assert packed.shape == (1, 2, 5, 34)
        assert not codes.means(packed).any()


@pytest.mark.parametrize("name", ["general", "evolved_relative"])
def test_codes_tell_means_and_weights_apart(name: str) -> None:
    """Means to a 100th of themselves and a deviation, weights to a 50th of the largest."""
    namm = Namm.from_pretrained(name)
    generator = torch.Generator().manual_seed(0)
    deviation = namm.variance.sqrt()[:, None]
    means = deviation * 64.0 * torch.rand(2, 3, 17, 500, generator=generator) ** 6
    weights = 16.0**namm.relative * torch.rand(2, 3, 16, 500, generator=generator) ** 4
    found, told, _ = coded(namm.codes, means, weights)
    assert float(((found - means).abs() / (means + deviation)).max()) < 0.03
    window = torch.hann_window(32)[:16, None]  # as the weights enter the next frame
    entered, largest = weights * window, (weights * window).amax(2, keepdim=True)
    assert float(((told * window - entered).abs() / largest).max()) < 0.01


def test_a_sink_has_a_code() -> None:
    """Attention of 1 from every query is a mean of 16: thousands of deviations."""
    attention = torch.zeros(4096, 2)
    attention[:, 0] = 1.0
    found = folded(SpectrogramOf(GENERAL.spectrogram, GENERAL.codes), attention, 1)
    assert float(found[0, 0]) == pytest.approx(16.0, rel=0.25)


@pytest.mark.parametrize("name", ["general", "evolved_relative"])
def test_decoding_does_not_freeze_the_means(name: str) -> None:
    """Steps of 1.6 % of a difference are not lost by rounding, over 200 of them."""
    namm = Namm.from_pretrained(name)
    generator = torch.Generator().manual_seed(1)
    level = torch.logspace(-4, -1, 60) * (1.0 + 0.5 * torch.rand(3200, 60, generator=generator))
    level[1600:] *= 1.5  # what a token receives grows by half
    exact = folded(SpectrogramOf(namm.spectrogram), level, 200)
    found = folded(SpectrogramOf(namm.spectrogram, namm.codes), level, 200)
    scale = exact[:, 0] + namm.variance[0].sqrt()
    assert float(((found - exact)[:, 0].abs() / scale).max()) < 0.05


@dataclass(frozen=True)
class Told(NammPolicy):
    """A NAMM that notes what it is told, and keeps the newest tokens: two states see the same."""

    name: ClassVar[str] = "told"

    def score(self, view: LayerView) -> Tensor:
        TOLD.append(view.statistics["spectrogram"][view.filled])
        return view.positions.float()


TOLD: list[Tensor] = []


@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("step", [192, 1])
def test_a_policy_is_told_the_same_in_both_states(storage: str, step: int) -> None:
    """Through evictions, in one call and token by token; tiny weights make large means."""
    model, tokens, told = tiny_llama(), tiny_tokens(1, 192), []
    for state in ("float32", "compact"):
        TOLD.clear()
        policy = Told(state=state, budget="tokens:40")
        with torch.no_grad(), attach(model, policy, interval=32, storage=storage) as memory:
            for start in range(0, 192, step):
                model(tokens[:, start : start + step], past_key_values=memory.cache)
        told.append(torch.cat(TOLD))
    exact, found = told
    error = (found - exact).abs() / (exact + GENERAL.variance.sqrt())
    assert float(error.mean()) < 0.02
    assert float(error.quantile(0.99)) < 0.1


def live_bytes(policy: Policy, *, tokens: int) -> float:
    """Bytes of a token in one head of size 64 in bfloat16, when `tokens` are held."""
    model = tiny_llama(hidden_size=256, num_attention_heads=4, num_key_value_heads=2)
    model = model.to(torch.bfloat16)
    with torch.no_grad(), attach(model, policy, interval=tokens, storage="shared") as memory:
        model(tiny_tokens(1, tokens))
    live = memory.usage().live_final
    assert live is not None
    return live / (tokens * memory.layers * 2)


def test_a_namm_takes_an_eighth_more_than_h2o_at_equal_tokens() -> None:
    found = live_bytes(NammPolicy(budget="tokens:64"), tokens=64)
    other = live_bytes(H2O(budget="tokens:64"), tokens=64)
    assert (found, other) == (256 + 4 + 34, 256 + 4 + 4)
    assert found / other <= 1.15


def test_the_state_of_a_new_token_is_the_empty_one() -> None:
    """Stores fill new slots with zeros; a fold of nothing else leaves them out of the means."""
    observation = SpectrogramOf(GENERAL.spectrogram, GENERAL.codes)
    state = observation.initial(1, 1, 4, "cpu")
    attention = torch.rand(1, 1, 32, 4, generator=torch.Generator().manual_seed(2)) * 0.1
    held = observation.closed(observation.fold(observation.opened(state), attention))
    grown = {"codes": pad(held["codes"], (0, 0, 0, 3))}
    nothing = torch.zeros(1, 1, 16, 7)
    found = observation.read(
        observation.closed(observation.fold(observation.opened(grown), nothing))
    )
    assert not found[0, 0, 4:].any()
    assert found[0, 0, :4].all()


def test_an_unknown_state_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="compact"):
        NammPolicy(state="float16")


def test_codes_are_made_for_any_statistics() -> None:
    """Deviations of zero or of one, as in a network that was not trained yet."""
    for deviation in (0.0, 1.0):
        namm = Namm(torch.zeros(4172), torch.zeros(17), torch.full((17,), deviation))
        assert isinstance(namm.codes, StateCodes)
        means = torch.rand(1, 1, 17, 50, generator=torch.Generator().manual_seed(3)) * 0.1
        found = coded(namm.codes, means, torch.zeros(1, 1, 16, 50)).ema
        torch.testing.assert_close(found, means, atol=2e-3, rtol=0.15)
