"""From scores to kept slots: threshold, budget, shared or per-head sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Budget, KeepAll, LayerView, Selection, Threshold


def select(
    scores: Tensor,
    view: LayerView,
    selection: Selection,
    *,
    per_head: bool = False,
) -> tuple[Tensor, Tensor]:
    """Choose which slots stay.

    The newest token of a head always stays. With ``per_head=False`` all heads of a row keep the
    same number: the largest that any of them asks for, each its own best (the official rule,
    arXiv 2410.13166; rows are independent here, unlike there). Equal scores are decided for the
    older token.

    Parameters
    ----------
    scores
        (row, kv_head, slot), higher stays; NaN is refused.
    view
        The layer that was scored: positions, lengths and limits are read. Without limits a budget
        is taken of the view's own rows, at their first update.

    Returns
    -------
    index : Tensor
        (row, kv_head, k) int64, ascending; entries past a head's count are in range but
        meaningless.
    counts : Tensor
        (row, kv_head) int64: how many stay.

    Raises
    ------
    UsageError
        A score is NaN.
    """
    if bool(scores.isnan().any()):
        raise UsageError(
            f"the policy scored NaN in layer {view.layer}: got {int(scores.isnan().sum())} of "
            f"{scores.numel()} scores, expected finite numbers. Check its checkpoint and the "
            "model's dtype."
        )
    lengths, slots = view.lengths, scores.shape[-1]
    slot = torch.arange(slots, device=scores.device)
    ranked = scores.float()
    if isinstance(selection, Budget) and selection.pooled and not per_head:
        raise UsageError(
            message(
                "heads cannot share a budget where all keep the same number",
                given=selection.describe(),
                expected="storage=per_head",
                then="Set storage=per_head, or take fraction:F.",
            )
        )
    ranked = ranked.masked_fill(slot == lengths[..., None] - 1, float("inf"))
    ranked = ranked.masked_fill(~view.filled, float("-inf"))
    order = ranked.argsort(dim=-1, descending=True, stable=True)
    counts = _counts(ranked, view, selection)
    if not per_head:
        counts = counts.amax(dim=1, keepdim=True).expand_as(counts)
    counts = torch.minimum(counts.clamp(min=1), lengths)
    widest = int(counts.max()) if counts.numel() else 0
    beyond = torch.arange(widest, device=scores.device) >= counts[..., None]
    index = order[..., :widest].masked_fill(beyond, slots).sort(dim=-1).values
    return index.clamp(max=max(slots - 1, 0)), counts


def limits(
    selection: Selection, view: LayerView, update: int = 0, rows: Sequence[int] | None = None
) -> Tensor | None:
    """Return how many tokens each head may keep, (row, kv_head) int64; None where no size is named.

    Parameters
    ----------
    view
        The layer that is going to be scored: lengths and the tokens seen are read.
    update
        Number of earlier updates, to look up a ``match:`` trace.
    rows
        Index of each row in the batch, to look up its trace.
    """
    if isinstance(selection, KeepAll):
        return None
    if isinstance(selection, Threshold):
        size = selection.limit
        return None if size is None else torch.full_like(view.lengths, size)
    if selection.tokens is not None:
        return torch.full_like(view.lengths, selection.tokens)
    if selection.fraction is not None:
        return torch.full_like(view.lengths, selection.size(view.seen))
    return torch.stack(
        [
            _matched(selection, row, update, view)
            for row in (rows if rows is not None else range(view.lengths.shape[0]))
        ]
    ).to(view.lengths)


def _counts(ranked: Tensor, view: LayerView, selection: Selection) -> Tensor:
    """(row, kv_head): how many tokens each head asks to keep."""
    if isinstance(selection, KeepAll):
        return view.lengths
    sizes = view.limits if view.limits is not None else limits(selection, view)
    if isinstance(selection, Threshold):
        wanted = (ranked >= 0).sum(dim=-1)
        return wanted if sizes is None else torch.minimum(wanted, sizes)
    if selection.pooled:
        return _pooled(ranked, view, selection.size(view.seen))
    return view.lengths if sizes is None else sizes


def _pooled(ranked: Tensor, view: LayerView, each: int) -> Tensor:
    """(row, kv_head): how many of the layer's best tokens each head has, `each` on average."""
    size = each * ranked.shape[1]
    order = ranked.flatten(1).argsort(dim=-1, descending=True, stable=True)[:, :size]
    best = torch.zeros_like(ranked, dtype=torch.bool).flatten(1).scatter_(1, order, value=True)
    return (best.view_as(ranked) & view.filled).sum(dim=-1)


def _matched(selection: Budget, row: int, update: int, view: LayerView) -> Tensor:
    """(kv_head,): the sizes that the traced run kept in this layer after this update."""
    trace = selection.trace_of(row)
    sizes = trace.at(update, view.layer)
    heads = view.lengths.shape[1]
    if sizes is None:  # the traced run never evicted
        return torch.full((heads,), view.seen)
    if len(sizes) != heads:
        raise UsageError(
            f"the trace of {selection.matched!r} has {len(sizes)} heads in layer {view.layer}, "
            f"expected the model's {heads}. Record it on the same model."
        )
    return torch.tensor(sizes)
