"""One layer's memory: append, attend, observe and evict, block by block, inside the attention call.

Rows that have seen equally many tokens form a *cohort* and are computed together; rows that differ
(left padding, finished episodes) are in cohorts of their own. So intervals are counted per row, and
what a row gives does not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from namm_mm.memory.attention import attend
from namm_mm.memory.moving import send
from namm_mm.memory.observer import Observer, observer_for
from namm_mm.memory.per_head_store import PerHeadStore
from namm_mm.memory.residual import Residual
from namm_mm.memory.rules import Rules
from namm_mm.memory.select import limits, losing, select, whole_heads
from namm_mm.memory.store import SharedStore, Store
from namm_mm.memory.watch import Update
from namm_mm.observations.base import Cached
from namm_mm.observations.formula import Formula
from namm_mm.policies.base import LayerView


@dataclass(frozen=True)
class Block:
    """Tokens ``start:stop`` of a call.

    Attributes
    ----------
    evict
        Whether an eviction follows them.
    left
        Tokens from there to the next eviction; None where there is none.
    coming
        Tokens of the next block of the same call.
    """

    start: int
    stop: int
    evict: bool
    left: int | None = None
    coming: int = 0


@dataclass(frozen=True)
class Segment:
    """One cohort's part of a call.

    Attributes
    ----------
    cohort
        Number of the cohort.
    rows
        (row,) on the CPU: rows of the batch.
    places
        (row, 1) and (row, token), on the model's device: rows and columns of the call that hold
        this cohort's tokens; None for all of them.
    seen
        Tokens that the cohort had seen before.
    blocks
        The call cut at the update boundaries.
    prune
        Evict before the first block: the prompt ended with the call before.
    """

    cohort: int
    rows: Tensor
    places: tuple[Tensor, Tensor] | None
    seen: int
    blocks: tuple[Block, ...]
    prune: bool = False


def cut(count: int, seen: int, rules: Rules, *, ends: bool = False) -> tuple[Block, ...]:
    """Cut `count` new tokens at the update boundaries of a row that has seen `seen` already.

    `ends` says that a prompt that is pruned once ends with them.
    """
    if count == 0:  # a row that is finished, or padding alone
        return ()
    if rules.keeps_all or not rules.streaming:
        return (Block(0, count, ends and not rules.keeps_all),)
    blocks, start = [], 0
    while start < count:
        stop = min(count, start + rules.interval - (seen + start) % rules.interval)
        left = rules.interval - (seen + stop) % rules.interval
        evict = left == rules.interval
        blocks.append(Block(start, stop, evict, left, min(left, count - stop)))
        start = stop
    return tuple(blocks)


class CohortMemory:
    """What one layer remembers of one cohort: kept tokens, statistics, and the sizes it had."""

    def __init__(self, store: Store, observer: Observer, residual: Residual | None = None) -> None:
        self.store = store
        self.observer = observer
        self.residual = residual
        self.sizes: list[Tensor] = []  # (row, kv_head) after each update
        self.held = self.high = torch.zeros(3, store.rows, dtype=torch.float64)
        self.updated = self.held  # what was held right after the last update
        self.evicted_at = 0  # tokens seen then

    def select_rows(self, rows: Tensor) -> CohortMemory:
        """Return the memory of these rows, in this order."""
        residual = None if self.residual is None else self.residual.select_rows(rows)
        chosen = CohortMemory(
            self.store.select_rows(rows), self.observer.select_rows(rows), residual
        )
        chosen.sizes = [sizes[rows.cpu()] for sizes in self.sizes]
        chosen.held, chosen.high = self.held[:, rows.cpu()], self.high[:, rows.cpu()]
        chosen.updated, chosen.evicted_at = self.updated[:, rows.cpu()], self.evicted_at
        return chosen

    def attend(self, queries: Tensor, dim: int, formula: Formula) -> Tensor:
        """Attention output of the newest tokens, (row, head, token, `dim`), observed."""
        if self.residual is not None and self.residual.state is not None:
            out = self.residual.attend(queries, self.store, formula)
            self.observer.observe(queries, self.store, formula)
        elif self.observer.attends(queries, formula):
            out = queries.new_empty(*queries.shape[:3], dim)
            self.observer.observe(queries, self.store, formula, out)
        else:
            out = attend(queries, self.store, formula)
            self.observer.observe(queries, self.store, formula)
        return out

    @property
    def state_bytes(self) -> int:
        """Bytes of one head that are held once: of queries, and of a residual."""
        residual = 0 if self.residual is None else self.residual.nbytes
        return (self.observer.nbytes + residual) // (self.store.rows * self.store.heads)

    def measure(self, *, start: bool = False) -> None:
        """Measure what is held, and remember the largest since the start of the call.

        `held` and `high` are (3, row) float64: allocated bytes, waiting queries and the residual
        included, each row's own share; tokens, mean over heads; and live bytes, without free room.
        """
        store, beside = self.store, self.observer.nbytes
        shares, slot, observed = store.shares(), store.slot_nbytes, store.statistics_nbytes
        if store.even and isinstance(shares, float):  # all rows are alike: one number says it
            live = store.width * store.heads * slot + shares * (observed + beside)
            alike = [round(shares * (store.nbytes + beside)), store.width, round(live)]
            held = torch.tensor(alike, dtype=torch.float64)[:, None].expand(3, store.rows)
        else:
            tokens = store.lengths.sum(1).double()
            parts = torch.full_like(tokens, 1.0).mul_(shares)
            size = (parts * (store.nbytes + beside)).round_()
            held = torch.stack(
                [
                    size,
                    tokens / store.heads,
                    (tokens * slot + parts * (observed + beside)).round_(),
                ]
            )
        if self.residual is not None:
            own = self.residual.nbytes / store.rows
            held = held + torch.tensor([own, 0.0, own], dtype=torch.float64)[:, None]
        self.held = held
        self.high = held if start else torch.maximum(self.high, held)


class LayerMemory:
    """The cohorts of one layer."""

    def __init__(self, layer: int, layers: int, rules: Rules) -> None:
        self.layer, self.layers, self.rules = layer, layers, rules
        self.formula = Formula(1.0)  # that of the newest call
        self.cohorts: list[CohortMemory] = []

    def open(self, keys: Tensor, values: Tensor) -> CohortMemory:
        """Begin the memory of a new cohort, with the sizes of these keys and values."""
        kind = PerHeadStore if self.rules.per_head else SharedStore
        maps = self.rules.policy.residual
        residual = None if maps is None else Residual(maps, self.layer)
        store = kind(keys, values)
        if self.rules.reads_some and store.device.type == "cpu":
            store.unread = whole_heads(self.rules.policy.selection, self.layer, self.rules.interval)
        return CohortMemory(
            store,
            observer_for(self.rules.observation or self.rules.policy.needs),
            residual,
        )

    def attend(
        self,
        memory: CohortMemory,
        segment: Segment,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        formula: Formula,
    ) -> Tensor:
        """Run one cohort through its blocks; tensors are (row, head, token, head_dim)."""
        out, self.formula = [], formula
        if segment.prune:
            self.evict(memory, segment.rows, segment.seen, segment.blocks[0].stop)
        for block in segment.blocks:
            part = slice(block.start, block.stop)
            first, left = segment.seen + block.start, 0 if block.evict else block.left
            memory.store.append(keys[:, :, part], values[:, :, part], first, left)
            out.append(memory.attend(queries[:, :, part], values.shape[-1], formula))
            memory.measure(start=not block.start)
            if block.evict:
                seen = segment.seen + block.stop
                self.evict(memory, segment.rows, seen, block.coming, block.left)
        return out[0] if len(out) == 1 else torch.cat(out, dim=2)

    def evict(
        self,
        memory: CohortMemory,
        rows: Tensor,
        seen: int,
        coming: int = 0,
        left: int | None = None,
    ) -> None:
        """Score, select, and drop the rest for good.

        Parameters
        ----------
        memory
            The cohort, of which every row has processed `seen` tokens.
        rows
            Its rows of the batch.
        coming, left
            Tokens of the next block, and tokens until the next eviction, None where there is none.
        """
        memory.observer.fold_waiting(memory.store, self.formula)
        store, policy, places = memory.store, self.rules.policy, rows.tolist()
        keys, values = store.padded()
        cached = Cached(keys, store.positions(), seen, **vars(self.formula))
        view = LayerView(
            layer=self.layer,
            layers=self.layers,
            keys=keys,
            values=values,
            positions=cached.positions,
            lengths=store.lengths_there,
            seen=seen,
            statistics=memory.observer.statistics(store, cached),
            rows=tuple(places),
        )
        memory.observer.after_eviction(left)
        beside = memory.observer.nbytes // (store.rows * store.heads)
        sizes = limits(policy.selection, view, len(memory.sizes), places, policy, beside)
        if store.unread is not None and sizes is not None:  # at any time, `Memory.prune`
            unread = send(store.unread, store.device)
            sizes = torch.where(unread, torch.maximum(sizes, view.lengths), sizes)
        loses = None if self.rules.watcher else losing(policy.selection, sizes, view.lengths)
        view = replace(view, limits=sizes, losing=loses)
        scores = policy.protected_scores(view)
        index, counts = select(scores, view, policy.selection, per_head=self.rules.per_head)
        if memory.residual is not None and self.formula.window is None:
            memory.residual.fold(store, index, counts)
        store.keep(index, counts, coming, left)
        memory.sizes.append(store.lengths)
        if self.rules.watcher is not None:
            scored = scores.float().masked_fill(~view.filled, float("nan"))
            number = len(memory.sizes) - 1
            kept = store.positions()
            self.rules.watcher(Update(self.layer, number, seen, tuple(places), kept, scored))
        memory.measure()  # room for the next tokens may be more than was freed
        memory.updated, memory.evicted_at = memory.held, seen
