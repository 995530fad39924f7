"""A policy sees the attention as the model computes it, capped and with sinks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import families
import pytest
import torch
from torch import Tensor

from namm_mm.memory import attach
from namm_mm.policies import create
from namm_mm.policies.over import Over
from namm_mm.policies.view import LayerView

pytestmark = pytest.mark.numeric

LENGTH = 40


@dataclass(frozen=True)
class Noting(Over):
    """Notes what the policy below is told, and for how many heads, layer by layer."""

    name: ClassVar[str] = "noting"
    found: dict[int, tuple[Tensor, int]] = field(default_factory=dict, compare=False)

    def score(self, view: LayerView) -> Tensor:
        (told,) = view.statistics.values()
        self.found[view.layer] = told, view.keys.shape[1]
        return super().score(view)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["h2o", "attention_max", "snapkv"])
@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "deepseek_v3"])
def test_statistics_are_those_of_eager_attention(family: str, name: str) -> None:
    model = families.tiny_model(family)
    tokens = torch.randint(3, 58, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    policy = Noting(over=create(name, budget="tokens:1000"))
    with torch.no_grad():
        with attach(model, policy, interval=LENGTH):
            model(input_ids=tokens)
        model.set_attn_implementation("eager")
        weights = model(input_ids=tokens, output_attentions=True).attentions
    for layer, dense in enumerate(weights):
        got, heads = policy.found[layer]
        if name == "snapkv":
            expected = dense[0, :, -got.shape[2] :]
        else:
            group = dense[0].unflatten(0, (heads, -1)).mean(1)
            expected = group.sum(1) if name == "h2o" else group.amax(1)
        torch.testing.assert_close(got[0], expected, atol=2e-5, rtol=1e-3)
    if family == "gpt_oss":
        assert float(weights[0].sum(-1).min()) < 0.99, "no sink took a part"
