"""Query moments are those of the queries before RoPE, in any model that they are taken of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers import CohereConfig, CohereForCausalLM, PhiConfig, PhiForCausalLM

from namm_mm.errors import UnsupportedError, UsageError
from namm_mm.memory import attach
from namm_mm.observations import QueryMoments
from namm_mm.policies import Policy
from namm_mm.policies.base import LayerView
from namm_mm.testing import check_policy
from namm_mm.testing.tiny import TINY, tiny_llama, tiny_tokens

INTERVAL, FUTURE = 32, 50
SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Expecting(Policy):
    """What the mean next query looks at; remembers what it was told."""

    name: ClassVar[str] = "expecting"
    needs: ClassVar[QueryMoments] = QueryMoments(future=FUTURE)
    seen: list[LayerView] = field(default_factory=list, repr=False, compare=False)

    def score(self, view: LayerView) -> Tensor:
        self.seen.append(view)
        rows, heads = view.keys.shape[:2]
        mean = view.statistics["query_moments"][:, :, 0].view(rows, heads, -1, view.keys.shape[-1])
        return torch.einsum("rhgd,rhsd->rhs", mean, view.keys.float())


def phi() -> Any:
    torch.manual_seed(0)
    model: Any = PhiForCausalLM(PhiConfig(**SIZES))  # half of each head turns
    return model.eval()


def queries_before_rotation(model: Any, tokens: Tensor) -> list[Tensor]:
    """(query_head, token, dim) of each layer, taken from the projections."""
    found: list[Tensor] = []

    def keep(_module: Any, _args: Any, out: Tensor) -> None:
        # GPT-2 projects queries, keys and values at once
        found.append(out[0, :, :32].view(tokens.shape[1], 4, 8).transpose(0, 1))

    names = ("q_proj", "c_attn")
    hooks = [
        module.register_forward_hook(keep)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in names
    ]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return found


def mean_rotation(model: Any, first: int) -> Tensor:
    """(dim, dim) by the model's own cosines and sines: mean over the next positions."""
    if not hasattr(model.get_decoder(), "rotary_emb"):
        return torch.eye(8)
    embedding = model.get_decoder().rotary_emb
    positions = torch.arange(first, first + FUTURE)
    cosine, sine = embedding(torch.zeros(1, FUTURE, 8), positions[None])
    cosine, sine = cosine[0].mean(0), sine[0].mean(0)
    dim = len(cosine)
    half = torch.zeros(dim, dim)  # rotate_half as a matrix
    half[: dim // 2, dim // 2 :] = -torch.eye(dim // 2)
    half[dim // 2 :, : dim // 2] = torch.eye(dim // 2)
    turn = torch.eye(8)
    turn[:dim, :dim] = torch.diag(cosine) + sine[:, None] * half
    return turn


@pytest.mark.parametrize("name", [*sorted(TINY), "phi"])
def test_moments_are_those_of_the_queries_before_rotation(name: str) -> None:
    model = phi() if name == "phi" else TINY[name]()
    tokens, policy = tiny_tokens(1, 3 * INTERVAL), Expecting(budget=1.0)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL) as memory:
        model(tokens[:, :70])
        for step in range(70, 3 * INTERVAL):
            model(tokens[:, step : step + 1], past_key_values=memory.cache)
    assert len(policy.seen) == 2 * 3
    for view in policy.seen:
        plain = queries_before_rotation(model, tokens)[view.layer][:, 4 : view.seen]
        turn = mean_rotation(model, view.seen)
        mean = plain.mean(1)
        centred = plain - mean[:, None]
        covariance = centred.transpose(1, 2) @ centred / plain.shape[1]
        told = view.statistics["query_moments"][0]
        torch.testing.assert_close(told[:, 0], mean @ turn.T, atol=1e-4, rtol=1e-4)
        expected = turn @ covariance @ turn.T
        torch.testing.assert_close(told[:, 1:], expected, atol=1e-4, rtol=1e-4)


def test_a_padded_row_is_told_what_it_is_told_alone() -> None:
    """Padding shifts the positions that the model uses: moments and keys shift together."""
    model, tokens, policy = tiny_llama(), tiny_tokens(2, 90), Expecting(budget="tokens:24")
    mask = torch.ones_like(tokens)
    mask[1, :17] = 0
    with torch.no_grad(), attach(model, policy, interval=INTERVAL) as together:
        model(tokens, attention_mask=mask)
    with torch.no_grad(), attach(model, policy, interval=INTERVAL) as alone:
        model(tokens[1:, 17:])
    for layer in range(2):
        for mine, other in zip(together.kept(layer, 1), alone.kept(layer), strict=True):
            assert mine.tolist() == other.tolist()


def test_models_that_turn_otherwise_are_refused_before_they_run() -> None:
    torch.manual_seed(0)
    other: Any = CohereForCausalLM(CohereConfig(**SIZES))
    with pytest.raises(UnsupportedError, match=r"CohereForCausalLM.*other channels"):
        attach(other.eval(), Expecting())
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0}
    with pytest.raises(UnsupportedError, match="got 'rotary embedding dynamic'"):
        attach(tiny_llama(rope_parameters=dynamic), Expecting())
    with pytest.raises(UsageError, match="wrong query moments"):
        QueryMoments(future=0)


def test_a_policy_of_moments_keeps_its_promises() -> None:
    assert len(check_policy(Expecting())) == 14
