"""From scores to kept slots: threshold, budget, shared or per-head sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.memory.moving import send
from namm_mm.policies.base import Budget, KeepAll, LayerView, Policy, Selection, Threshold


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
        (row, kv_head) int64 on the CPU: how many stay.

    Raises
    ------
    UsageError
        A score is NaN.
    """
    _check(selection, per_head=per_head)
    lengths, slots = view.lengths, scores.shape[-1]
    slot = torch.arange(slots, device=scores.device)
    ranked = scores.float().masked_fill(slot == lengths[..., None] - 1, float("inf"))
    ranked = ranked.masked_fill(~view.filled, float("-inf"))
    counts = _counts(ranked, view, selection)
    if not per_head:
        counts = counts.amax(dim=1, keepdim=True).expand_as(counts)
    counts = torch.minimum(counts.clamp(min=1), lengths)
    known = _read(counts, scores, view)
    widest = int(known.max()) if known.numel() else 0
    chosen = _best(ranked, counts, widest)
    # The chosen slots in order: each is written where so many were chosen before it.
    place = torch.where(chosen, chosen.cumsum(-1) - 1, widest)
    index = place.new_zeros(*place.shape[:2], widest + 1)
    return index.scatter_(-1, place, slot.expand_as(place))[..., :widest], known


def losing(selection: Selection, sizes: Tensor | None, lengths: Tensor) -> Tensor | None:
    """(row, kv_head) bool: heads that hold more than they may keep; None where scores tell.

    Parameters
    ----------
    sizes
        What :func:`limits` gives.
    lengths
        (row, kv_head) int64: tokens held.
    """
    if sizes is None or not isinstance(selection, Budget) or selection.pooled:
        return None
    return sizes < lengths


def whole_heads(selection: Selection, layer: int, interval: int) -> Tensor | None:
    """(kv_head,) bool: heads that lose no token in any update; None for none.

    Updates come every `interval` tokens: a size in whole tokens is the least part of what was seen
    at the first of them.
    """
    if not isinstance(selection, Budget) or selection.need is None or selection.fraction is None:
        return None
    if selection.bytewise or selection.pooled or selection.beta is not None or not interval:
        return None
    if selection.whole_layers or not selection.need.needs:
        return None
    part = selection.fraction - 1 / interval
    whole = selection.need.whole(layer, part) if part > 0 else ()
    return torch.tensor(whole) if any(whole) else None


def _read(counts: Tensor, scores: Tensor, view: LayerView) -> Tensor:
    """Return `counts` on the CPU: the one time that the host waits for a device in an eviction.

    Raise `UsageError` for scores that are NaN.
    """
    known = torch.cat([counts.flatten(), scores.isnan().sum()[None]]).cpu()
    if missing := int(known[-1]):
        raise UsageError(
            f"the policy scored NaN in layer {view.layer}: got {missing} of {scores.numel()} "
            "scores, expected finite numbers. Check its checkpoint and the model's dtype."
        )
    return known[:-1].view(counts.shape)


def _best(ranked: Tensor, counts: Tensor, most: int) -> Tensor:
    """(..., slot) bool: the `counts` (...) best slots, `most` at most; the older of equal ones."""
    if not most:
        return torch.zeros_like(ranked, dtype=torch.bool)
    best = ranked.topk(most, dim=-1).values
    least = best.gather(-1, (counts - 1).clamp_min(0)[..., None])
    above = ranked > least
    rest = counts[..., None] - above.sum(-1, keepdim=True)
    equal = ranked == least
    return above | (equal & (equal.cumsum(-1) <= rest))


def _check(selection: Selection, *, per_head: bool) -> None:
    """Raise `UsageError` for a budget that heads cannot share."""
    if isinstance(selection, Budget) and selection.uneven and not per_head:
        raise UsageError(
            message(
                "heads cannot have sizes of their own where all keep the same number",
                given=selection.describe(),
                expected="storage=per_head",
                then="Set storage=per_head, or take fraction:F.",
            )
        )


def limits(
    selection: Selection,
    view: LayerView,
    update: int = 0,
    rows: Sequence[int] | None = None,
    policy: Policy | None = None,
    beside: int = 0,
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
    policy
        The policy, for equal bytes: what it remembers counts, of each token and in a residual.
    beside
        For equal bytes: what is held once for each head, in bytes, beside tokens and residual.
    """
    if isinstance(selection, KeepAll):
        return None
    if isinstance(selection, Threshold):
        size = selection.limit
        return None if size is None else torch.full_like(view.lengths, size)
    if selection.trace is not None:
        matched = [
            _matched(selection, row, update, view, policy, beside)
            for row in (rows if rows is not None else range(view.lengths.shape[0]))
        ]
        return send(torch.stack(matched), view.lengths.device)
    if selection.table is not None:
        sizes = torch.tensor(selection.table.sizes(view.layer, view.seen))
        return send(sizes, view.lengths.device).expand_as(view.lengths)
    if selection.bytewise:
        size = _bytes_limit(selection, view, policy, beside)
    elif view.layer < selection.whole_layers:
        size = view.seen
    else:
        size = selection.tokens if selection.tokens is not None else selection.size(view.seen)
    if selection.beta is not None:
        size = _of_layer(size, selection.beta, view)
    if selection.need is not None:
        needed = selection.need.sizes(view.layer, min(size, view.seen), view.seen)
        return send(torch.tensor(needed), view.lengths.device).expand_as(view.lengths)
    return torch.full_like(view.lengths, size)


def _counts(ranked: Tensor, view: LayerView, selection: Selection) -> Tensor:
    """(row, kv_head): how many tokens each head asks to keep."""
    if isinstance(selection, KeepAll):
        return view.lengths
    sizes = view.limits if view.limits is not None else limits(selection, view)
    if isinstance(selection, Threshold):
        wanted = (ranked >= 0).sum(dim=-1)
        return wanted if sizes is None else torch.minimum(wanted, sizes)
    if sizes is None:
        return view.lengths
    return _pooled(ranked, view, sizes, selection.floor) if selection.pooled else sizes


def _pooled(ranked: Tensor, view: LayerView, sizes: Tensor, floor: float) -> Tensor:
    """(row, kv_head): how many of the layer's best tokens each head has.

    `sizes` (row, kv_head) are equal shares; each head keeps the part `floor` of its own anyway.
    """
    if floor:
        slots = ranked.shape[-1]
        safe = _best(ranked, (sizes * floor).long().clamp(max=slots), slots)
        ranked = ranked.masked_fill(safe & view.filled, float("inf"))
    together = ranked.flatten(1)
    most = together.shape[1]
    best = _best(together, sizes.sum(1).clamp(max=most), most).view_as(ranked)
    return (best & view.filled).sum(dim=-1)


def _of_layer(size: int, beta: float, view: LayerView) -> int:
    """Size of this layer where sizes fall linearly over layers and their mean is `size`."""
    if view.layers < 2:
        return size
    last = max(size / beta, 1.0)
    first = 2 * size - last
    if first > view.seen:  # the lowest layers cannot hold more than there is
        first, last = float(view.seen), max(2.0 * size - view.seen, 1.0)
    return max(1, round(first - view.layer * (first - last) / (view.layers - 1)))


def _plain_bytes(view: LayerView) -> int:
    """Bytes of the key, the value and the position of one token in one head."""
    return (view.keys.shape[-1] + view.values.shape[-1]) * view.keys.element_size() + 4


def _bytes_limit(selection: Budget, view: LayerView, policy: Policy | None, beside: int) -> int:
    """Tokens of a head whose bytes are a part of those of all tokens seen.

    Layers that keep every token are paid for by the others. Where these would be left with nothing,
    all layers evict.
    """
    full = view.seen * _plain_bytes(view)
    size = int((selection.fraction or 0.0) * full)
    if whole := selection.whole_layers:
        own = full + view.seen * (0 if policy is None else policy.bytes_per_token)
        rest = (size * view.layers - whole * own) // max(view.layers - whole, 1)
        if view.layers > whole and _tokens_for(rest, view, policy, beside) >= selection.least:
            if view.layer < whole:
                return view.seen
            size = rest
    return max(selection.least, _tokens_for(size, view, policy, beside))


def _tokens_for(size: int, view: LayerView, policy: Policy | None, beside: int) -> int:
    """Tokens of a head that fit in `size` bytes: `beside` and the policy's residual take of them.

    Less than 1 where nothing is left.
    """
    if policy is None:
        return (size - beside) // _plain_bytes(view)
    features = 0 if policy.residual is None else policy.residual.features
    state = 4 * features * (view.values.shape[-1] + 1) + beside
    return (size - state) // (_plain_bytes(view) + policy.bytes_per_token)


def _matched(
    selection: Budget, row: int, update: int, view: LayerView, policy: Policy | None, beside: int
) -> Tensor:
    """(kv_head,): the sizes that the traced run kept in this layer after this update.

    Under equal bytes a token costs ``(d_k + d_v) * itemsize + 4`` for its key, value and position,
    and what its policy remembers of it; what is held once takes its bytes.
    """
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
    if selection.bytewise:
        theirs = _plain_bytes(view) + trace.bytes_per_token
        held = trace.state_bytes
        fit = (_tokens_for(size * theirs + held, view, policy, beside) for size in sizes)
        sizes = tuple(min(view.seen, max(1, tokens)) for tokens in fit)
    if selection.need is not None:  # even sizes: each is the mean of all heads
        sizes = selection.need.sizes(view.layer, min(max(sizes), view.seen), view.seen)
    return torch.tensor(sizes)
