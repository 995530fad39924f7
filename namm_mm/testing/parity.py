"""Replay a recording of the official NAMM modules and say how far each array is.

Every array is computed from the recorded attention on. Only which tokens stay is taken from the
recording, after it was compared: otherwise one tie would hide all that follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from namm_mm.memory.select import select
from namm_mm.namm.features import RunningStatistics, age_embedding, features
from namm_mm.namm.network import SCORERS
from namm_mm.namm.params import AGE_FEATURES, layout_of
from namm_mm.namm.spectrogram import Spectrogram, SpectrogramState
from namm_mm.policies.base import LayerView, Threshold
from namm_mm.testing.recording import Drive, Update, not_a_recording, read_recording

FEATURE_TOLERANCE = 1e-5
SCORE_TOLERANCE = 1e-4
EXACT = 0.0


@dataclass(frozen=True)
class Deviation:
    """How far the arrays of one kind are from the recording.

    Attributes
    ----------
    group
        Which arrays, as ``bam.score``.
    arrays
        How many were compared.
    largest
        Largest absolute difference over all of them; infinite where shapes differ.
    tolerance
        What is allowed.
    """

    group: str
    arrays: int
    largest: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it is within tolerance (NaN is not)."""
        return self.largest <= self.tolerance


class Comparison(NamedTuple):
    """One array of ours beside the recorded one."""

    name: str
    ours: Tensor
    recorded: Tensor
    tolerance: float


def check_parity(path: str | Path) -> tuple[Deviation, ...]:
    """Compare this package with every array of a recording; return the deviations.

    Parameters
    ----------
    path
        An ``.npz`` file in the layout of :mod:`namm_mm.testing.recording`.

    Raises
    ------
    UsageError
        The file is missing, no ``.npz``, or holds nothing in that layout.
    """
    deviations: dict[str, Deviation] = {}
    for prefix, drive in read_recording(Path(path)).items():
        for name, ours, recorded, tolerance in _compare(drive):
            group = f"{prefix}.{name}"
            before = deviations.get(group, Deviation(group, 0, 0.0, tolerance))
            largest = _difference(ours, recorded)
            # `max` of a number and NaN depends on their order; a NaN has to stay.
            worst = before.largest if largest <= before.largest else largest
            worst = before.largest if math.isnan(before.largest) else worst
            deviations[group] = replace(before, arrays=before.arrays + 1, largest=worst)
    if not deviations:
        raise not_a_recording(Path(path), ["parameters, but no steps"])
    return tuple(deviations.values())


def table(deviations: tuple[Deviation, ...]) -> str:
    """Return deviations as text, one line for each group."""
    width = max((len(deviation.group) for deviation in deviations), default=5)
    lines = [f"{'array':<{width}}  count  max deviation  allowed"]
    for d in deviations:
        allowed = "exact" if d.tolerance == EXACT else f"{d.tolerance:.0e}"
        verdict = "ok" if d.passed else "TOO FAR"
        lines.append(
            f"{d.group:<{width}}  {d.arrays:>5}  {d.largest:>13.2e}  {allowed:>7}  {verdict}"
        )
    failed = sum(not d.passed for d in deviations)
    lines.append(f"{failed} of {len(deviations)} too far" if failed else "all within tolerance")
    return "\n".join(lines)


def _compare(drive: Drive) -> Iterator[Comparison]:
    for limit, scores, kept in drive.selections():
        yield Comparison("idx", _select(scores, limit), kept, EXACT)
    yield from _constants(drive)
    yield from _statistics(drive)
    for layer in sorted(drive.layers):
        # Chunks after the last update have no arrays of their own.
        updates = [update for update in drive.updates(layer) if update.arrays]
        if updates:
            replay = _Replay(drive, heads=updates[0].shape[0])
            for update in updates:
                yield from replay.run(update)


def _constants(drive: Drive) -> Iterator[Comparison]:
    n_fft = Spectrogram().n_fft
    window = drive.arrays.get(f"hann{n_fft}")
    if window is not None:
        # Unit impulses show the window that the spectrogram really applies: slot i gets query i.
        spectrogram = Spectrogram()
        impulses = torch.eye(n_fft)[None, None]
        weights = spectrogram.frames(spectrogram.initial(1, 1, n_fft), impulses)[0, 0, 1, :, 0]
        yield Comparison(f"hann{n_fft}", weights, window, FEATURE_TOLERANCE)
    ages = drive.arrays.get("recency_table_head")
    if ages is not None:
        ours = age_embedding(torch.arange(len(ages)))
        yield Comparison("recency_table_head", ours, ages, FEATURE_TOLERANCE)


def _statistics(drive: Drive) -> Iterator[Comparison]:
    statistics = RunningStatistics()
    for array in drive.pooled():
        statistics.add(array)
    if statistics.count == 0:
        return
    mean, variance = statistics.freeze()
    count = torch.full(mean.shape, statistics.count)
    for name, ours, tolerance in (
        ("mean", mean, FEATURE_TOLERANCE),
        ("var", variance, FEATURE_TOLERANCE),
        ("num", count, EXACT),
    ):
        recorded = drive.statistic(name)
        if recorded is not None:
            yield Comparison(f"stats.{name}", ours, recorded, tolerance)


class _Replay:
    """One layer's cache, driven through its recorded updates."""

    def __init__(self, drive: Drive, heads: int) -> None:
        self.drive = drive
        self.heads = heads
        self.spectrogram = Spectrogram()
        self.state = self.spectrogram.initial(1, heads, 0)
        self.seen = 0
        self.positions = torch.empty(1, heads, 0, dtype=torch.int64)
        self.keys: Tensor | None = None

    def run(self, update: Update) -> Iterator[Comparison]:
        slots = update.shape[1]
        start, self.seen = self.seen, self.seen + slots - self.positions.shape[2]
        new = torch.arange(start, self.seen).expand(1, self.heads, -1)
        self.positions = torch.cat([self.positions, new], dim=2)
        recorded = update.arrays
        for name, ours, tolerance in self._observed(update):
            if name in recorded:
                yield Comparison(name, ours, recorded[name], tolerance)
            elif name == "age":
                theirs = recorded["embedding"][..., :AGE_FEATURES]
                yield Comparison(name, ours, theirs, tolerance)
        if new_keys := update.in_order("new_key"):
            before = [] if self.keys is None else [self.keys]
            self.keys = torch.cat([*before, *new_keys], dim=2)
        if "retained_idx" in recorded:
            yield from self._evict(recorded)

    def _observed(self, update: Update) -> Iterator[tuple[str, Tensor, float]]:
        """Yield frames, features and scores, each from our own numbers as far as they exist."""
        age = self.seen - 1 - self.positions
        embedding = update.arrays.get("embedding")
        if chunks := update.in_order("attn"):
            frames, self.state = self._stream(chunks)
            yield "frames", frames, FEATURE_TOLERANCE
            yield "ema", self.state.ema, FEATURE_TOLERANCE
            mean, variance = self.drive.statistic("mean"), self.drive.statistic("var")
            if mean is not None and variance is not None:
                embedding = features(self.state.ema, age, mean, variance)
                yield "embedding", embedding, FEATURE_TOLERANCE
        elif embedding is not None:
            yield "age", age_embedding(age), FEATURE_TOLERANCE
        vector = self.drive.arrays.get("params")
        if embedding is not None and vector is not None:
            flat = vector.reshape(-1)
            scorer = SCORERS[layout_of(flat).scorer].from_vector(flat)
            lengths = torch.full((1, self.heads), age.shape[2])
            yield "score", scorer.score(embedding, lengths), SCORE_TOLERANCE

    def _stream(self, chunks: list[Tensor]) -> tuple[Tensor, SpectrogramState]:
        """Fold the chunks one after the other; yield each result when it fills whole hops."""
        state = self.state
        frames, waiting = [], torch.empty(1, self.heads, 0, 0)
        for chunk in chunks:
            slots = chunk.shape[3]
            mean = chunk.reshape(1, self.heads, -1, *chunk.shape[2:]).mean(dim=2)
            waiting = torch.cat([F.pad(waiting, (0, slots - waiting.shape[3])), mean], dim=2)
            if waiting.shape[2] % self.spectrogram.hop:
                continue
            grown = slots - state.ema.shape[2]
            state = SpectrogramState(*(F.pad(part, (0, 0, 0, grown)) for part in state))
            frames.append(self.spectrogram.frames(state, waiting))
            state = self.spectrogram.advance(state, waiting)
            waiting = waiting[:, :, :0]
        widest = chunks[-1].shape[3]
        padded = [F.pad(frame, (0, 0, 0, widest - frame.shape[3])) for frame in frames]
        return torch.cat(padded, dim=2), state

    def _evict(self, recorded: dict[str, Tensor]) -> Iterator[Comparison]:
        kept = recorded["retained_idx"].to(torch.int64)
        if "score" in recorded:
            ours = _select(recorded["score"], None)
            yield Comparison("retained_idx", ours, kept, EXACT)
        self.positions = self.positions.gather(2, kept)
        if "kept_position_ids" in recorded:
            wanted = recorded["kept_position_ids"]
            yield Comparison("kept_position_ids", self.positions, wanted, EXACT)
        if self.state.ema.shape[2]:  # stays empty where no attention was recorded
            self.state = SpectrogramState(*(_gather(part, kept) for part in self.state))
        if self.keys is not None:
            self.keys = _gather(self.keys, kept)
            if "kept_key" in recorded:
                yield Comparison("kept_key", self.keys, recorded["kept_key"], EXACT)


def _gather(tensor: Tensor, kept: Tensor) -> Tensor:
    return tensor.gather(2, kept[..., None].expand(-1, -1, -1, tensor.shape[-1]))


def _select(scores: Tensor, limit: int | None) -> Tensor:
    """Return the indices that the memory keeps under the official rule, (1, head, kept)."""
    rows, heads, slots = scores.shape
    view = LayerView(
        layer=0,
        layers=1,
        keys=scores,
        values=scores,
        positions=torch.arange(slots).expand(rows, heads, slots),
        lengths=torch.full((rows, heads), slots),
        seen=slots,
    )
    return select(scores, view, Threshold(limit))[0]


def _difference(ours: Tensor, recorded: Tensor) -> float:
    if ours.shape != recorded.shape:
        return math.inf
    if not ours.numel():
        return 0.0
    return float((ours.to(torch.float64) - recorded.to(torch.float64)).abs().max())
