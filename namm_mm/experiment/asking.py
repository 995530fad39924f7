"""One question about one file, answered under several policies at equal memory."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from namm_mm.errors import NammWarning
from namm_mm.experiment.kept import kept_fractions
from namm_mm.experiment.telling import told
from namm_mm.memory import Memory, attach
from namm_mm.policies import Policy, create
from namm_mm.policies.base import Budget
from namm_mm.records import Inputs, MemoryUse, Sample, TokenType
from namm_mm.runs.history import History, Recorder
from namm_mm.runs.pictures import frame_strip

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter


@dataclass(frozen=True)
class Asked:
    """One answer.

    Attributes
    ----------
    policy, budget
        Who answered, in words.
    text
        The answer.
    memory
        Tokens and bytes of its cache.
    seconds
        Wall time of the answer, prompt included.
    fractions, token_types, pieces
        For each prompt token the part of all heads that hold it at the end, what it is, and its
        text (empty where tokens are no text).
    history
        When each prompt token was forgotten; None unless it was asked for.
    frames
        The frames of a video side by side, as JPEG; empty for other inputs.
    """

    policy: str
    budget: str
    text: str
    memory: MemoryUse
    seconds: float
    fractions: tuple[float, ...]
    token_types: tuple[TokenType, ...]
    pieces: tuple[str, ...]
    history: History | None = None
    frames: bytes = b""


def ask(
    adapter: AnsweringAdapter,
    sample: Sample,
    policy: Policy,
    compare: Sequence[str] = (),
    interval: int | None = None,
    *,
    closely: bool = False,
) -> list[Asked]:
    """Answer `sample` under `policy`, and under each policy of `compare` with as many tokens.

    Parameters
    ----------
    adapter
        Loaded.
    policy
        The first policy.
    compare
        Names of policies. ``full`` keeps everything; the others get the first policy's number of
        tokens in every layer.
    interval
        Tokens between two evictions; None is the first policy's own.
    closely
        Whether histories are recorded, which takes time.

    Returns
    -------
    list of Asked
        The first policy's answer first.

    Raises
    ------
    UsageError
        An unknown policy or budget, or a file that cannot be read.
    """
    inputs = adapter.prepare(sample)
    interval = policy.interval if interval is None else interval
    found: list[Asked] = []
    chosen, trace = policy, None
    with torch.no_grad():
        for name in (policy.name, *compare):
            if found:
                matched = Budget(trace=trace, matched=f"match:{policy.name}")
                chosen = create(name) if name == "full" else create(name, budget=matched)
            recorder = Recorder() if closely else None
            chosen = told(adapter, inputs, chosen)
            with _attached(adapter, chosen, interval, policy.storage, recorder) as memory:
                asked = _answered(adapter, inputs, memory, chosen)
            trace = trace or memory.trace().even_heads()
            found.append(asked if recorder is None else _closely(asked, recorder, memory, inputs))
    return found


def _attached(
    adapter: AnsweringAdapter,
    policy: Policy,
    interval: int | None,
    storage: str | None,
    watcher: Recorder | None,
) -> AbstractContextManager[Memory]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NammWarning)  # who asks is told beside the answers
        return attach(adapter.backbone, policy, interval=interval, storage=storage, watcher=watcher)


def _answered(adapter: AnsweringAdapter, inputs: Inputs, memory: Memory, policy: Policy) -> Asked:
    start = time.perf_counter()
    answer = adapter.answer(inputs, memory)
    return Asked(
        policy=policy.name,
        budget=policy.selection.describe(),
        text=answer.text,
        memory=memory.usage(),
        seconds=time.perf_counter() - start,
        fractions=tuple(kept_fractions(memory, inputs.token_types)),
        token_types=inputs.token_types,
        pieces=adapter.pieces(inputs),
    )


def _closely(asked: Asked, recorder: Recorder, memory: Memory, inputs: Inputs) -> Asked:
    """Add what a page shows: the history, and the frames of a video."""
    history = recorder.history(memory, asked.token_types, pieces=asked.pieces)
    return dataclasses.replace(asked, history=history, frames=frame_strip(inputs))
