"""Save the history of a few samples: what was kept of each token at every update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from namm_mm.runs.history import SAMPLES, Recorder, save
from namm_mm.runs.names import file_name

if TYPE_CHECKING:
    from namm_mm.experiment.cell import Cell
    from namm_mm.memory import Memory
    from namm_mm.policies.base import Policy
    from namm_mm.records import Sample, TokenType


def watched(cell: Cell, count: int) -> range:
    """Return which of `count` samples are watched, evenly spaced; none without a run folder."""
    if cell.folder is None:
        return range(0)
    return range(0, count, -(-count // SAMPLES))


def keep(
    cell: Cell,
    recorder: Recorder,
    memory: Memory,
    sample: Sample,
    policy: Policy,
    token_types: Sequence[TokenType],
    *,
    row: int = 0,
    **facts: Any,
) -> str:
    """Save the history of a sample.

    Returns
    -------
    str
        Its path within the run folder; empty without a run folder, or where it cannot be written.
    """
    if cell.folder is None:
        return ""
    history = recorder.history(memory, token_types, row, **facts)
    budget, interval = policy.selection.describe(), str(cell.settings.interval)
    method = (policy.name, budget, interval, str(cell.seed))
    try:
        return save(history, cell.folder, file_name(cell.settings.name, sample.id, *method))
    except OSError:
        return ""
