"""The fraction of the tokens that a NAMM keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from namm_mm.memory import attach
from namm_mm.policies.namm import NammPolicy

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter
    from namm_mm.namm import Namm
    from namm_mm.records import Sample


def kept_fraction(
    adapter: AnsweringAdapter, samples: Sequence[Sample], namm: Namm, storage: str = "shared"
) -> float:
    """Return the fraction of the tokens that are cached at the end, mean over `samples`.

    Parameters
    ----------
    adapter
        A loaded adapter.
    namm
        Evicts by its threshold, at its interval.
    storage
        ``shared`` or ``per_head``.
    """
    fractions = []
    for sample in samples:
        inputs = adapter.prepare(sample)
        with (
            torch.no_grad(),
            attach(
                adapter.backbone,
                NammPolicy(namm, state="float32"),
                interval=namm.interval,
                storage=storage,
            ) as memory,
        ):
            adapter.answer(inputs, memory)
            fractions.append(memory.usage().kept_fraction or 0.0)
    return sum(fractions) / len(fractions)
