"""What is left out because nobody reads it changes nothing that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from namm_mm.memory import attach
from namm_mm.memory.per_head_store import PerHeadStore
from namm_mm.observations import ColumnSums
from namm_mm.policies import NammPolicy, Policy, create
from namm_mm.policies.base import LayerView
from namm_mm.policies.head_need import HeadNeed
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric

NEED = HeadNeed(((0.02, 0.9), (0.1, 0.05)))


class WholeSums(ColumnSums):
    """Column sums that are shown every slot."""

    narrow: ClassVar[bool] = False


@dataclass(frozen=True)
class ShownAll(Policy):
    """H2O without protected tokens."""

    name: ClassVar[str] = "shown_all"
    needs: ClassVar[ColumnSums] = WholeSums()

    def score(self, view: LayerView) -> Tensor:
        return view.statistics["column_sums"]


@dataclass(frozen=True)
class ShownSeen(ShownAll):
    """The same, shown what queries see."""

    name: ClassVar[str] = "shown_seen"
    needs: ClassVar[ColumnSums] = ColumnSums()


def kept(policy: Policy, *, watched: bool = False, storage: str = "per_head") -> list[list[int]]:
    """What every head of every layer holds in the end."""
    model, watcher = tiny_llama(), (lambda update: None) if watched else None
    door = attach(model, policy, interval=320, storage=storage, watcher=watcher)
    with torch.no_grad(), door as memory:
        model(tiny_tokens(1, 1100))
    return [head.tolist() for layer in range(memory.layers) for head in memory.kept(layer)]


@pytest.mark.parametrize("below", ["h2o", "namm"])
def test_heads_that_keep_everything_need_no_score(below: str) -> None:
    policy = create("probed", over=below, budget="fraction:0.4", need=NEED)
    alone = kept(policy)
    assert alone == kept(policy, watched=True)  # a watcher is told all scores
    assert sorted({len(head) for head in alone})[0] < 1100 == max(map(len, alone))


@pytest.mark.parametrize("storage", ["shared", "per_head"])
def test_slots_newer_than_the_queries_need_not_be_shown(storage: str) -> None:
    whole = kept(ShownAll(budget=0.3), storage=storage)
    assert whole == kept(ShownSeen(budget=0.3), storage=storage)


def test_a_head_at_its_size_is_told_apart() -> None:
    seen: list[LayerView] = []

    class Told(NammPolicy):
        def score(self, view: LayerView) -> Tensor:
            seen.append(view)
            return super().score(view)

    kept(create("probed", over=Told(budget=0.4), need=NEED))
    whole = [view.losing for view in seen]
    assert all(losing is not None and losing.tolist() != [[True, True]] for losing in whole[:3])


def test_a_head_that_never_loses_a_token_is_not_observed() -> None:
    policy = create("probed", over="namm", budget="fraction:0.4", need=NEED)
    model = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=320) as memory:
        model(tiny_tokens(1, 1100))
        held = memory.cache.sequences.memories[0].cohorts[0].store
        live = memory.usage().live_final
    assert isinstance(held, PerHeadStore)
    assert held.unread is not None
    assert held.unread.tolist() == [False, True]
    assert held.statistics_nbytes == 34 * int(held.lengths[0, 0])
    with torch.no_grad(), attach(model, policy, interval=320, watcher=lambda update: None) as all_:
        model(tiny_tokens(1, 1100))
        whole = all_.usage().live_final
    assert live is not None
    assert whole is not None
    assert live < whole


def test_which_heads_hold_everything_is_known_before() -> None:
    for interval in (16, 40, 128):
        for part in (0.1, 0.33, 0.5, 0.9, 1.0):
            promised = [NEED.whole(layer, part - 1 / interval) for layer in range(2)]
            for seen in range(interval, 40 * interval, interval):
                for layer, heads in enumerate(promised):
                    sizes = NEED.sizes(layer, int(part * seen), seen)
                    pairs = zip(sizes, heads, strict=True)
                    assert all(size == seen for size, whole in pairs if whole)
    assert NEED.whole(0, 0.4) == (False, True)
    assert HeadNeed(NEED.needs, windows=(64, None)).whole(0, 0.4) == (False, False)
