"""Presses of kvpress as policies, and a NAMM as a press, checked against kvpress where it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import __version__ as transformers_version

from namm_mm.errors import UnsupportedError, UsageError
from namm_mm.integrations.kvpress_namm import kept_by_threshold, namm_press
from namm_mm.namm import Namm
from namm_mm.policies import Budget, create
from namm_mm.policies.namm import NammPolicy
from namm_mm.testing.tiny import tiny_llama

pytestmark = pytest.mark.numeric

kvpress = pytest.importorskip(
    "kvpress", reason="kvpress is not installed: make test-kvpress makes an environment for it"
)
memory_runs = tuple(map(int, transformers_version.split(".")[:2])) >= (5, 17)
with_memory = pytest.mark.skipif(
    not memory_runs, reason=f"our memory needs transformers 5.17, here is {transformers_version}"
)
with_hooks = pytest.mark.skipif(
    memory_runs, reason=f"kvpress's hooks need transformers < 5.3, here is {transformers_version}"
)
if memory_runs:
    from namm_mm.integrations import kvpress as bridge
PROMPT = 192


@pytest.fixture
def model() -> Any:
    return tiny_llama(max_position_embeddings=1024).eval()


@pytest.fixture
def ids(model: Any) -> torch.Tensor:
    return torch.randint(3, model.config.vocab_size, (1, PROMPT))


def network() -> Namm:
    return Namm(torch.randn(4172), torch.zeros(17), torch.ones(17))


def kept(memory: Any, layers: int) -> list[list[list[int]]]:
    return [[p.tolist() for p in memory.kept(layer)] for layer in range(layers)]


@with_memory
def test_knorm_keeps_what_our_l2_all_keeps(model: Any, ids: torch.Tensor) -> None:
    from namm_mm.memory import attach

    budget = Budget(tokens=40)
    runs = []
    for protocol in ("prune_after_prefill", "streaming"):
        ours = create("l2_all", budget=budget)
        with torch.no_grad(), attach(model, ours, interval=64, protocol=protocol) as memory:
            model(ids)
        runs.append(kept(memory, model.config.num_hidden_layers))
        press = kvpress.KnormPress()
        with (
            torch.no_grad(),
            bridge.attach_press(
                model, press, budget=budget, protocol=protocol, interval=64
            ) as memory,
        ):
            model(ids)
        assert kept(memory, model.config.num_hidden_layers) == runs[-1]
    assert runs[0] != runs[1]
    assert not hasattr(model.model.layers[0].self_attn, "rotary_emb")


PREFILL_ONLY = ("NonCausalAttnPress", "LeverageScorePress")
PRESSES = (
    "SnapKVPress",
    "ExpectedAttentionPress",
    "TOVAPress",
    "KeyDiffPress",
    "LagKVPress",
    "StreamingLLMPress",
    "NonCausalAttnPress",
    "LeverageScorePress",
    "CURPress",
)


@with_memory
@pytest.mark.parametrize("name", PRESSES)
def test_a_press_keeps_what_it_scores_highest(model: Any, ids: torch.Tensor, name: str) -> None:
    """Through generate, in both protocols; after the prompt exactly the best of its own scores."""
    options = {"window_size": 16} if name == "SnapKVPress" else {}
    press = getattr(kvpress, name)(**options)
    scores = {}
    plain = press.score

    def score(module: Any, *rest: Any) -> torch.Tensor:
        found: torch.Tensor = plain(module, *rest)
        scores[module.layer_idx] = found
        return found

    object.__setattr__(press, "score", score)
    budget = Budget(tokens=48)
    with torch.no_grad(), bridge.attach_press(model, press, budget=budget) as memory:
        model(ids)
        found = kept(memory, model.config.num_hidden_layers)
    for layer, heads in enumerate(found):
        best = scores[layer].topk(48, dim=-1)
        for head, positions in enumerate(heads):
            assert len(positions) == 48
            lowest = best.values[0, head, -1]
            assert positions[-1] == PROMPT - 1  # the newest always stays
            assert (scores[layer][0, head, positions[:-1]] >= lowest).all()
    if name in PREFILL_ONLY:
        return
    with (
        torch.no_grad(),
        bridge.attach_press(
            model, press, budget=budget, protocol="streaming", interval=64
        ) as memory,
    ):
        model.generate(ids, max_new_tokens=70, do_sample=False)
    assert memory.usage().updates == (PROMPT + 69) // 64


@with_memory
def test_what_cannot_be_pressed_is_refused(model: Any, ids: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="not a press that scores"):
        bridge.PressPolicy(object())  # type: ignore[arg-type]
    padded = torch.ones(2, PROMPT, dtype=torch.long)
    padded[0, :20] = 0
    press = bridge.attach_press(model, kvpress.KnormPress(), budget=Budget(tokens=9))
    with torch.no_grad(), press, pytest.raises(UnsupportedError, match="equal length"):
        model(ids.expand(2, -1), attention_mask=padded)
    decision = torch.nn.Linear(2, 2)
    with (
        pytest.raises(UnsupportedError, match="kvpress does not know"),
        bridge.attach_press(decision, kvpress.KnormPress()),
    ):
        pass


@with_memory
def test_a_namm_press_scores_as_our_memory_does(model: Any, ids: torch.Tensor) -> None:
    from namm_mm.memory import attach

    namm = network()
    inputs: dict[int, Any] = {}

    class Watching(NammPolicy):
        def score(self, view: Any) -> torch.Tensor:
            found: torch.Tensor = super().score(view)
            inputs[view.layer] = found
            return found

    policy = Watching(namm)
    with (
        torch.no_grad(),
        attach(model, policy, interval=64, protocol="prune_after_prefill") as memory,
    ):
        model(ids)
    pressed: dict[int, torch.Tensor] = {}
    press = namm_press(namm)
    plain = press.score

    def score(module: Any, *rest: Any) -> torch.Tensor:
        pressed[module.layer_idx] = plain(module, *rest)
        return pressed[module.layer_idx]

    object.__setattr__(press, "score", score)
    with torch.no_grad(), bridge.attach_press(model, press, budget=Budget(tokens=9)):
        model(ids)
    for layer, found in pressed.items():
        torch.testing.assert_close(found, inputs[layer], atol=2e-4, rtol=2e-4)
        positions = kept_by_threshold(inputs[layer])
        assert [p.tolist() for p in memory.kept(layer)] == positions[0].tolist()


@with_hooks
def test_a_namm_press_compresses_in_kvpress_itself(model: Any, ids: torch.Tensor) -> None:
    from transformers import DynamicCache

    torch.manual_seed(5)  # a network under which no head keeps everything
    for ratio, size in ((None, None), (0.75, PROMPT // 4)):
        press = namm_press(network(), compression_ratio=ratio)
        cache = DynamicCache()
        with torch.no_grad(), press(model):
            model(ids, past_key_values=cache)
        layers: Any = cache.layers
        lengths = {layer.keys.shape[2] for layer in layers}
        assert max(lengths) < PROMPT
        assert size is None or lengths == {size}
