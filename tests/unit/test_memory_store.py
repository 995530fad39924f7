"""Stores keep what they are told to, and new tokens begin without a past."""

from __future__ import annotations

import pytest
import torch

from namm_mm.memory import per_head_store, slots
from namm_mm.memory.attention import weights
from namm_mm.memory.per_head_store import PerHeadStore
from namm_mm.memory.store import SharedStore, Store
from namm_mm.observations.formula import Formula

ROWS, HEADS, SLOTS, DIM = 2, 1, 6, 4


def test_tokens_after_a_shorter_row_begin_without_a_past() -> None:
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(ROWS, HEADS, SLOTS, DIM, generator=draw)
    store = SharedStore(keys[:, :, :0], keys[:, :, :0])
    store.append(keys, keys, 0)
    store.set_statistics({"sums": torch.arange(1.0, 1 + ROWS * SLOTS).view(ROWS, HEADS, SLOTS)})
    index = torch.tensor([[[0, 2, 5]], [[5, 0, 0]]])
    store.keep(index, torch.tensor([[3], [1]]))
    store.append(keys[:, :, :2], keys[:, :, :2], SLOTS)
    assert store.lengths.tolist() == [[5], [3]]
    held = store.statistics()["sums"]
    assert held[0, 0, :5].tolist() == [1.0, 3.0, 6.0, 0.0, 0.0]
    assert held[1, 0, :3].tolist() == [12.0, 0.0, 0.0]
    assert store.positions()[1, 0, :3].tolist() == [5, 6, 7]


def _kept(kind: type[Store], rows: int) -> Store:
    """A store of ragged heads that dropped tokens, with statistics of all but the newest two."""
    draw = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, rows, 3, 12, DIM, generator=draw)
    store = kind(keys, values)
    store.append(keys[:, :, :10], values[:, :, :10], 0)
    store.set_statistics({"sums": torch.rand(rows, 3, 10, 2, generator=draw)})
    store.append(keys[:, :, 10:], values[:, :, 10:], 10)
    order = torch.rand(rows, 3, 12, generator=draw).argsort(-1)
    counts = torch.tensor([[7, 2, 12]]).expand(rows, 3).clone()
    index = torch.zeros(rows, 3, 12, dtype=torch.int64)
    for row in range(rows):
        for head, count in enumerate(counts[row].tolist()):
            index[row, head, :count] = order[row, head, :count].sort().values
    store.keep(index, counts, coming=1, left=3)
    return store


@pytest.mark.parametrize("kind", [SharedStore, PerHeadStore])
def test_heads_that_are_taken_one_by_one_hold_what_all_at_once_hold(
    kind: type[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = _kept(kind, 2)
    for module in (slots, per_head_store):
        monkeypatch.setattr(module, "CALLS", 0)
    at_once = _kept(kind, 2)
    assert one_by_one.lengths.tolist() == at_once.lengths.tolist()
    assert one_by_one.nbytes == at_once.nbytes
    filled = one_by_one.positions() >= 0
    assert torch.equal(one_by_one.positions(), at_once.positions())
    pairs = zip(one_by_one.padded(), at_once.padded(), strict=True)
    assert all(torch.equal(one[filled], other[filled]) for one, other in pairs)
    sums = [store.statistics()["sums"][filled] for store in (one_by_one, at_once)]
    assert torch.equal(*sums)
    assert (sums[0] == 0).any()


@pytest.mark.parametrize("group", [1, 2, 3, 5])
def test_weights_are_the_softmax_and_later_tiles_leave_earlier_ones_alone(group: int) -> None:
    draw = torch.Generator().manual_seed(group)
    keys = torch.randn(1, 2, 40, DIM, generator=draw)
    queries = torch.randn(1, 2 * group, 24, DIM, generator=draw)
    store = SharedStore(keys[:, :, :0], keys[:, :, :0])
    store.append(keys, keys, 0)
    out = torch.empty_like(queries)
    found = list(weights(queries, store, Formula(0.5), tile=8, out=out))
    products = 0.5 * queries.view(1, 2, group, 24, DIM) @ keys[:, :, None].transpose(-1, -2)
    newer = torch.ones(24, 40).triu(17).bool()
    wanted = products.masked_fill(newer, float("-inf")).softmax(-1)
    for number, tile in enumerate(found):
        part = wanted[..., 8 * number : 8 * number + 8, : tile.shape[-1]]
        torch.testing.assert_close(tile, part.mean(2))
    torch.testing.assert_close(out, (wanted @ keys[:, :, None]).flatten(1, 2))
