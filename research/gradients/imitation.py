"""Fit a NAMM by gradient to an oracle: keep the tokens whose loss would cost the answer most.

The part of all importance that a memory of a given size holds on to is what is raised. One
threshold is for all layers and heads, so that the network also learns which heads need much: few
heads of a language model look things up, and they need all, while the others need the newest
tokens (compare DuoAttention, arXiv 2410.10819). The size is drawn anew for every step, so that what
is learned is an order of tokens and not one operating point. Some tokens are left out, as if
forgotten before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm
from namm_mm.namm.bam import Bam
from namm_mm.namm.params import LAYOUTS
from research.gradients.importance import Shown, shares

SIZES = (0.15, 0.6)  # parts of the tokens that a step keeps
FORGOTTEN = 0.5  # at most this part was forgotten before
RECENT, SINKS = 48, 4  # newest and first tokens, which never were
SPARED = 0.05  # of the tokens at least this part goes
PROJECTION, OUTPUT = 0.15, 0.05  # deviations of the weights that tokens begin to talk with
BATCH = 2  # updates a step
RATE, WARM_UP = 1.5e-3, 20  # the highest step size, and the steps until it is reached
CHECKED, CHECK_SIZE = 50, 0.35  # steps between two measurements, and the size that is measured
FALLEN = 0.03  # what a fit may hold less than at its best before it goes back


def held(namm: Namm, shown: Sequence[Shown], size: float) -> float:
    """Part of all importance in the tokens that score highest, mean over all.

    They are as many as the part `size` of all that were seen: NAMM's rule, one threshold for all
    layers and heads.
    """
    parts = []
    for one in shown:
        with torch.no_grad():
            scores = _score(namm.parameters, _features(namm, one), _lengths(one))
        scores = scores.masked_fill(one.places < 0, float("-inf")).flatten()
        wanted = round(size * one.seen * one.places.shape[0])
        best = scores.topk(min(len(scores), max(1, wanted))).indices
        parts.append(float(one.importance.flatten()[best].sum()))
    return sum(parts) / len(parts)


def fit(
    start: Namm,
    shown: Sequence[Shown],
    check: Sequence[Shown],
    *,
    steps: int = 1600,
    size: float = 0.5,
    rate: float = RATE,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Fit all 4,172 parameters.

    Some fits come apart: gates grow, few tokens are left with a gradient, and what is held falls to
    that of the start. So it is measured every `CHECKED` steps. A fit that has fallen goes back to
    its best, at a third of the rate; one that never rose begins again with other projections.

    Parameters
    ----------
    start
        A BAM. Its final layer is where the fit begins; projections that are zero begin at random.
    shown
        From :func:`research.gradients.importance.record`, of training prompts alone.
    check
        Of other prompts: where it is measured, and by which the best is chosen.
    steps
        In all, those that led nowhere included.
    size
        The threshold at 0 is put where this part of the tokens is above it.
    rate
        The highest step size.
    seed
        Of what is drawn, and of where the projections begin.
    on_step
        Told the step and what was held in it.

    Returns
    -------
    Tensor
        (4172,) float32: the best that was measured, which may be the start.

    Raises
    ------
    UsageError
        The start is no BAM, or nothing was shown.
    """
    if start.scorer != "bam" or not shown or not check:
        raise UsageError(
            message(
                "nothing to fit",
                given=f"a start of kind {start.scorer!r} and {len(shown)} updates, "
                f"{len(check)} to check it",
                expected="a bam, and at least one update of each",
                then="Record more or longer prompts: one without an eviction shows nothing.",
            )
        )
    random, tries = Random(seed), 0
    best, most = start.parameters, held(start, check, CHECK_SIZE)
    begun, drawn = most, not _talks(start)
    vector, optimizer = _begin(start, seed)
    for step in range(steps):
        cooled = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * min(1.0, step / WARM_UP) * cooled
        kept = _descend(start, vector, optimizer, shown, random)
        if on_step is not None:
            on_step(step + 1, kept)
        if (step + 1) % CHECKED and step + 1 < steps:
            continue
        now = held(replace(start, parameters=vector.detach()), check, CHECK_SIZE)
        if now > most:
            best, most = vector.detach().clone(), now
        elif drawn and most == begun:
            tries += 1
            vector, optimizer = _begin(start, seed + 1000 * tries)
        elif now < most - FALLEN:
            rate /= 3.0
            vector, optimizer = _optimized(best)
    return _centred(best, start, shown, size)


def _talks(namm: Namm) -> bool:
    """Whether its tokens tell each other anything, so that no projection is drawn."""
    parts = LAYOUTS["bam"].split(namm.parameters)
    return all(bool(parts[name].any()) for name in ("query_key_value_weight", "output_weight"))


def _begin(start: Namm, seed: int) -> tuple[Tensor, torch.optim.Optimizer]:
    """The start, and projections at random where they are zero."""
    generator = torch.Generator().manual_seed(seed)
    parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(start.parameters).items()}
    # Both, since where one is zero no gradient reaches the other.
    for name, deviation in (("query_key_value_weight", PROJECTION), ("output_weight", OUTPUT)):
        if not bool(parts[name].any()):
            parts[name] = deviation * torch.randn(parts[name].shape, generator=generator)
    return _optimized(LAYOUTS["bam"].join(parts))


def _optimized(parameters: Tensor) -> tuple[Tensor, torch.optim.Optimizer]:
    vector = torch.nn.Parameter(parameters.clone())
    return vector, torch.optim.Adam([vector], lr=0.0, betas=(0.9, 0.98))


def _descend(
    start: Namm,
    vector: Tensor,
    optimizer: torch.optim.Optimizer,
    shown: Sequence[Shown],
    random: Random,
) -> float:
    """Take one step; return what was held in it."""
    optimizer.zero_grad()
    total = 0.0
    for one in random.choices(shown, k=BATCH):
        if one.positions is None:
            one = _thin(one, random)
        scores = _score(vector, _features(start, one), _lengths(one))
        loss = _lost(scores, one, random.uniform(*SIZES)) / BATCH
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_([vector], 1.0)
    optimizer.step()
    return 1.0 - total


def _features(namm: Namm, one: Shown) -> Tensor:
    age = (one.seen - 1) - one.places
    return namm.features(one.spectrum.float(), age)


def _lengths(one: Shown) -> Tensor:
    return (one.places >= 0).sum(1)


def _score(vector: Tensor, z: Tensor, lengths: Tensor) -> Tensor:
    """(sequence, slot) scores of features (sequence, slot, 25)."""
    return Bam.from_vector(vector).score(z[None], lengths[None])[0]


def _thin(one: Shown, random: Random) -> Shown:
    """An update with some tokens left out, the same in all heads."""
    slots = one.spectrum.shape[1]
    gone = random.uniform(-FORGOTTEN, FORGOTTEN)
    stays = [i < SINKS or slots - i <= RECENT or random.random() > gone for i in range(slots)]
    left = torch.tensor(stays)
    return Shown(one.spectrum[:, left], shares(one.importance[:, left]), one.places[:, left])


def _lost(scores: Tensor, one: Shown, size: float) -> Tensor:
    """Importance outside of a soft memory of the given size, plus what the size is missed by."""
    there = one.places >= 0
    known = scores.detach()[there]
    wanted = min(size * one.seen * len(scores), (1.0 - SPARED) * len(known))
    limit = known.kthvalue(max(1, round(len(known) - wanted))).values
    softness = 0.5 * (known - limit).abs().median().clamp_min(1e-4)
    gates = torch.sigmoid((scores[there] - limit) / softness)
    return 1.0 - (gates * one.importance[there]).sum() + (gates.sum() - wanted).abs() / len(known)


def _centred(vector: Tensor, namm: Namm, shown: Sequence[Shown], size: float) -> Tensor:
    """Move the final bias so that the part `size` of what was shown scores 0 or more."""
    with torch.no_grad():
        scores = torch.cat(
            [_score(vector, _features(namm, s), _lengths(s))[s.places >= 0] for s in shown]
        )
    limit = scores.kthvalue(max(1, round((1.0 - size) * len(scores)))).values
    parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(vector).items()}
    parts["score_bias"] -= limit
    return LAYOUTS["bam"].join(parts)
