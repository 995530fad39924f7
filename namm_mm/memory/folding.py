"""The seam between an observation of weights and the kernels that serve it on a device."""

from __future__ import annotations

from torch import Tensor

from namm_mm.kernels import Kernels, chosen
from namm_mm.memory.store import Store
from namm_mm.observations.base import State, WeightsObservation
from namm_mm.observations.formula import Formula


def kernels_for(
    observation: WeightsObservation, queries: Tensor, formula: Formula
) -> Kernels | None:
    """Return the kernels that serve `observation`; None where plain torch does."""
    found = chosen(queries.device)
    if found is None or not found.attends(queries, queries):
        return None
    return found if found.observes(observation, formula) else None


def fold_by_kernel(
    kernels: Kernels,
    observation: WeightsObservation,
    state: State,
    queries: Tensor,
    complete: int,
    store: Store,
    formula: Formula,
    out: Tensor | None = None,
) -> None:
    """Fold the first `complete` of the newest queries into the statistics of `store`.

    Parameters
    ----------
    out
        (row, query_head, query, value_dim): filled with the attention output of all of them.
    """
    regions = store.regions()
    found, normaliser = kernels.attend(queries, regions, formula, out=out is not None)
    if out is not None:
        out.copy_(found)
    opened = observation.opened(state)
    folded = kernels.fold(observation, opened, queries, complete, normaliser, regions, formula)
    store.set_statistics(observation.closed(folded))


def attend_by_kernel(
    queries: Tensor, store: Store, formula: Formula
) -> tuple[Tensor, Tensor] | None:
    """Attention output and log-sum-exp by kernels; None where the device has none."""
    found = chosen(queries.device)
    if found is None:
        return None
    regions = store.regions()
    serves = found.attends(queries, regions.values)
    return found.attend(queries, regions, formula) if serves else None
