"""Fit a NAMM by gradient to an oracle: keep the tokens whose loss would cost the answer most.

The part of all importance that a memory of a given size holds on to is what is raised. The size is
drawn anew for every step, and half of the time each head has its own, so that what is learned is an
order of tokens and not one operating point. Some tokens are left out, as if forgotten before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.evolution.importance import Shown
from namm_mm.namm import Namm
from namm_mm.namm.bam import Bam
from namm_mm.namm.params import LAYOUTS

SIZES = (0.15, 0.6)  # parts of the tokens that a step keeps
FORGOTTEN = 0.5  # at most this part was forgotten before
RECENT = 64  # newest tokens, which never were
PROJECTION = 0.15  # deviation of the projections that tokens begin to talk with
RATE = 3e-3


def held(namm: Namm, shown: Sequence[Shown], size: float) -> float:
    """Part of all importance in the part `size` of the tokens that score highest, mean over all.

    The rule is NAMM's: one threshold for all layers and heads.
    """
    parts = []
    for one in shown:
        with torch.no_grad():
            scores = _score(namm.parameters, _features(namm, one.spectrum)).flatten()
        best = scores.topk(max(1, round(size * len(scores)))).indices
        parts.append(float(one.importance.flatten()[best].sum()))
    return sum(parts) / len(parts)


def fit(
    start: Namm,
    shown: Sequence[Shown],
    *,
    steps: int = 1600,
    size: float = 0.5,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Fit all 4,172 parameters.

    Parameters
    ----------
    start
        A BAM. Its final layer is where the fit begins; projections that are zero begin at random.
    shown
        From :func:`namm_mm.evolution.importance.record`, of training prompts alone.
    size
        The threshold at 0 is put where this part of the tokens is above it.
    on_step
        Told the step and what was held in it.

    Returns
    -------
    Tensor
        (4172,) float32.

    Raises
    ------
    UsageError
        The start is no BAM, or nothing was shown.
    """
    if start.scorer != "bam" or not shown:
        raise UsageError(
            message(
                "nothing to fit",
                given=f"a start of kind {start.scorer!r} and {len(shown)} updates",
                expected="a bam, and at least one update",
                then="Record longer prompts: one without an eviction shows nothing.",
            )
        )
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(start.parameters).items()}
    if not bool(parts["query_key_value_weight"].any()):
        noise = torch.randn(parts["query_key_value_weight"].shape, generator=generator)
        parts["query_key_value_weight"] = PROJECTION * noise
    vector = torch.nn.Parameter(LAYOUTS["bam"].join(parts))
    optimizer = torch.optim.Adam([vector], lr=RATE, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        z, importance = _thin(start, random.choice(shown), random)
        scores = _score(vector, z)
        loss = _lost(scores, importance, random.uniform(*SIZES), each=random.random() < 0.5)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([vector], 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, float(1.0 - loss.detach()))
    return _centred(vector.detach(), start, shown, size)


def _features(namm: Namm, spectrum: Tensor) -> Tensor:
    age = torch.arange(spectrum.shape[1] - 1, -1, -1).expand(spectrum.shape[:2])
    return namm.features(spectrum.float(), age)


def _score(vector: Tensor, z: Tensor) -> Tensor:
    """(sequence, slot) scores of features (sequence, slot, 25)."""
    lengths = torch.full((1, z.shape[0]), z.shape[1])
    return Bam.from_vector(vector).score(z[None], lengths)[0]


def _thin(namm: Namm, one: Shown, random: Random) -> tuple[Tensor, Tensor]:
    """Features and importance of an update, with some tokens left out."""
    slots = one.spectrum.shape[1]
    gone = random.uniform(-FORGOTTEN, FORGOTTEN)
    stays = [slots - i <= RECENT or random.random() > gone for i in range(slots)]
    left = torch.tensor(stays)
    importance = one.importance[:, left]
    importance = importance / importance.sum().clamp_min(1e-12)
    return _features(namm, one.spectrum)[:, left], importance


def _lost(scores: Tensor, importance: Tensor, size: float, *, each: bool) -> Tensor:
    """Importance outside of a soft memory of the given size, plus what the size is missed by."""
    known = scores.detach()
    if each:
        rank = max(1, round((1.0 - size) * known.shape[1]))
        limit = known.kthvalue(rank, dim=1, keepdim=True).values
    else:
        limit = known.flatten().kthvalue(max(1, round((1.0 - size) * known.numel()))).values
    softness = 0.5 * (known - limit).abs().median().clamp_min(1e-4)
    gates = torch.sigmoid((scores - limit) / softness)
    return 1.0 - (gates * importance).sum() + (gates.mean() - size).abs()


def _centred(vector: Tensor, namm: Namm, shown: Sequence[Shown], size: float) -> Tensor:
    """Move the final bias so that the part `size` of all tokens scores 0 or more."""
    with torch.no_grad():
        scores = torch.cat([_score(vector, _features(namm, s.spectrum)).flatten() for s in shown])
    limit = scores.kthvalue(max(1, round((1.0 - size) * len(scores)))).values
    parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(vector).items()}
    parts["score_bias"] -= limit
    return LAYOUTS["bam"].join(parts)
