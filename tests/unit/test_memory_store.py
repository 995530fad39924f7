"""Stores keep what they are told to, and new tokens begin without a past."""

from __future__ import annotations

import torch

from namm_mm.memory.store import SharedStore

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
