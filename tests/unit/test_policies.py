"""Each baseline keeps what its paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.policies import Budget, Threshold, create
from namm_mm.policies.base import LayerView
from namm_mm.records import Trace
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric


def run(name: str, length: int = 160, **options: Any) -> Any:
    policy = create(name, budget=Budget(tokens=24), **options)
    model = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=32) as memory:
        model(tiny_tokens(1, length))
    return memory


def test_full_keeps_everything() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 160)
    with torch.no_grad(), attach(model, create("full"), interval=32) as memory:
        model(tokens)
    assert [head.tolist() for head in memory.kept(1)] == [list(range(160))] * 2
    assert memory.trace().sizes == ()


def test_recency_keeps_sinks_and_the_newest() -> None:
    for head in run("recency").kept(1):
        assert head.tolist() == [0, 1, 2, 3, *range(140, 160)]


@pytest.mark.parametrize(("name", "newest"), [("h2o", 20), ("h2o_16", 16)])
def test_h2o_keeps_recents_and_the_heaviest(name: str, newest: int) -> None:
    """After one update: the newest, and of the others those with the largest column sums."""
    model, tokens = tiny_llama(), tiny_tokens(1, 64)
    with torch.no_grad():
        model.set_attn_implementation("eager")
        attention = model(tokens, output_attentions=True).attentions
        model.set_attn_implementation("sdpa")
        policy = create(name, budget=Budget(tokens=40))
        with attach(model, policy, interval=64) as memory:
            model(tokens)
    for layer in range(2):
        sums = attention[layer].view(1, 2, 2, 64, 64).mean(2).sum(2)[0]
        for head, kept in enumerate(memory.kept(layer)):
            heavy = sums[head, : 64 - newest].topk(40 - newest).indices.sort().values
            assert kept.tolist() == [*heavy.tolist(), *range(64 - newest, 64)]


def test_l2_keeps_its_first_layers_whole_unless_a_match_names_their_size() -> None:
    """The published setting; `l2_all` evicts everywhere."""
    model, tokens = tiny_llama(num_hidden_layers=3), tiny_tokens(1, 96)
    trace = Trace((((24, 24),) * 3,) * 3)
    for name, budget, sizes in (
        ("l2", Budget(tokens=24), [96, 96, 24]),
        ("l2", Budget(fraction=0.25), [96, 96, 24]),
        ("l2_all", Budget(tokens=24), [24, 24, 24]),
        ("l2", Budget(trace=trace, matched="match:namm"), [24, 24, 24]),
    ):
        with torch.no_grad(), attach(model, create(name, budget=budget), interval=32) as memory:
            model(tokens)
        assert [layer[0] for layer in memory.trace().sizes[-1]] == sizes
    with (
        torch.no_grad(),
        attach(model, create("pyramid", over="l2", beta=1.0), interval=96) as memory,
    ):
        model(tokens)
    assert [layer[0] for layer in memory.trace().sizes[-1]] == [96, 96, 24]


@pytest.mark.parametrize("name", ["recency", "l2_all", "tova", "keydiff", "namm"])
def test_every_policy_can_guard_a_part_of_its_budget_at_each_end(name: str) -> None:
    policy = create(name, budget="tokens:40", sinks=0.1, recents=0.1)
    model = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=32, storage="per_head") as memory:
        model(tiny_tokens(1, 160))
    for head in memory.kept(1):
        assert {0, 1, 2, 3, 156, 157, 158, 159} <= set(head.tolist())
        assert len(head) == 40


def test_l2_takes_norms_in_float32() -> None:
    """Norms that bfloat16 cannot tell apart still order the keys."""
    lengths = torch.linspace(100.0, 100.9, 64)
    keys = torch.nn.functional.one_hot(torch.arange(64) % 4, 64).float()
    keys = (keys + 0.001) * lengths[:, None]
    keys = keys[None, None].bfloat16()
    exact = keys.float().pow(2).sum(-1).sqrt()
    view = LayerView(0, 1, keys, keys, torch.arange(64)[None, None], torch.full((1, 1), 64), 64)
    scores = create("l2").score(view)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, -exact)
    assert len(set(scores.flatten().tolist())) > len(set(keys.norm(dim=-1).flatten().tolist()))


@pytest.mark.parametrize("name", ["namm", "l2", "random"])
def test_a_policy_may_be_told_to_hold_the_newest_tokens(name: str) -> None:
    """They come first, the newest before all; the others keep their order and their threshold."""
    plain, told = create(name), create(name, recents=16)
    spectrum = torch.rand(2, 2, 64, 17, generator=torch.Generator().manual_seed(0))
    keys, positions = torch.rand(2, 2, 64, 4), torch.arange(64).expand(2, 2, 64)
    lengths, statistics = torch.full((2, 2), 64), {"spectrogram": spectrum}
    view = LayerView(0, 1, keys, keys, positions, lengths, 64, statistics)
    scores, changed = plain.protected_scores(view), told.protected_scores(view)
    torch.testing.assert_close(changed[..., :48], scores[..., :48])
    newest = changed[..., 48:]
    assert (newest.diff(dim=-1) > 0).all()
    assert (newest[..., 0] > changed[..., :48].amax(-1)).all()
    assert (newest > 0).all()


@pytest.mark.parametrize("name", ["namm", "l2", "random", "h2o", "attention_max", "attention_ema"])
@pytest.mark.parametrize("recents", [-1, "abc", 2.5])
def test_a_wrong_number_of_newest_tokens_is_refused(name: str, recents: Any) -> None:
    with pytest.raises(UsageError, match="recents"):
        create(name, recents=recents)


@pytest.mark.parametrize("name", ["h2o", "attention_max", "attention_ema", "recency"])
@pytest.mark.parametrize("rule", ["tokens", "fraction", "threshold", "trace"])
def test_what_is_protected_never_fills_a_small_limit_alone(name: str, rule: str) -> None:
    """Half of what stays is chosen by the score, whichever rule of selection names the limit."""
    selection = {
        "tokens": Budget(tokens=6),
        "fraction": Budget(fraction=6 / 160),
        "threshold": Threshold(6),
        "trace": Budget(trace=Trace((((6, 6), (6, 6)),)), matched="match:namm"),
    }[rule]
    protected = {"sinks": 40} if name == "recency" else {"recents": 40}
    policy, model = create(name, budget=selection, **protected), tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=160) as memory:
        model(tiny_tokens(1, 160))
    kept = torch.stack([torch.as_tensor(head) for head in memory.kept(1)])
    assert kept.shape == (2, 6)
    if name == "recency":
        assert kept.tolist() == [[0, 1, 2, 157, 158, 159]] * 2
    else:
        assert (kept[:, 3:] == torch.tensor([157, 158, 159])).all()
        assert (kept[:, :3] < 157).all()
        assert kept[:, :3].tolist() != [[154, 155, 156]] * 2


def test_random_draws_with_its_seed() -> None:
    first, second = run("random", seed=1).kept(0), run("random", seed=2).kept(0)
    assert [h.tolist() for h in first] == [h.tolist() for h in run("random", seed=1).kept(0)]
    assert [h.tolist() for h in first] != [h.tolist() for h in second]
