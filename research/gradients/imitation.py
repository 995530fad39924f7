"""Fit a NAMM by gradients to an oracle: keep the tokens whose loss would cost the answer most.

The fit raises the part of all importance that is kept by a cache of a given size. One threshold
holds for all layers and heads, so that the network also learns which heads need much: the few
retrieval heads of a language model need all tokens, the others need the newest (compare
DuoAttention, arXiv 2410.10819). The size is drawn anew for every step, so that the network learns
an order of the tokens and not one operating point. Some tokens are left out, as if they had been
evicted before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm
from namm_mm.namm.bam import Bam
from namm_mm.namm.params import LAYOUTS
from research.gradients.examples import Example, normalised

FRACTIONS = (0.15, 0.6)  # least and greatest fraction of the tokens that a step keeps
EVICTED = 0.5  # at most this fraction was evicted before
SINKS, RECENTS = 4, 48  # first and newest tokens, which were not evicted before
MARGIN = 0.05  # at least this fraction of the tokens is not kept
PROJECTION, OUTPUT = 0.15, 0.05  # standard deviations of the first attention weights
BATCH = 2  # examples per step
WARM_UP = 20  # steps until the learning rate is at its highest
CHECK_EVERY, CHECK_FRACTION = 50, 0.35  # steps between two measurements, and their size
LARGEST_FALL = 0.03  # below its best by more than this, a fit returns to its best


@dataclass(frozen=True)
class FitSettings:
    """How a NAMM is fitted.

    Attributes
    ----------
    steps
        Steps in all, including those that are discarded.
    fraction
        The bias is moved so that this fraction of the tokens scores 0 or more.
    learning_rate
        The highest learning rate; a cosine lowers it to 0.
    seed
        Seed of the draws and of the first attention weights.
    """

    steps: int = 1600
    fraction: float = 0.5
    learning_rate: float = 1.5e-3
    seed: int = 0


def importance_kept(namm: Namm, examples: Sequence[Example], fraction: float) -> float:
    """Return the part of the importance that the highest scores keep, mean over the examples.

    The number of kept tokens is `fraction` of those that were seen, with one threshold for all
    layers and heads.
    """
    parts = []
    for example in examples:
        with torch.no_grad():
            scores = _scores(namm.parameters, namm, example)
        scores = scores.masked_fill(example.tokens < 0, float("-inf")).flatten()
        kept = round(fraction * example.seen * example.tokens.shape[0])
        best = scores.topk(min(len(scores), max(1, kept))).indices
        parts.append(float(example.importance.flatten()[best].sum()))
    return sum(parts) / len(parts)


def fit(
    start: Namm,
    examples: Sequence[Example],
    validation: Sequence[Example],
    settings: FitSettings = FitSettings(),
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Fit all 4,172 parameters.

    Some fits diverge: the gates grow, few tokens have a gradient, and the importance that is kept
    falls to that of the start. The fit is therefore measured every `CHECK_EVERY` steps. A fit that
    has fallen returns to its best vector, at a third of the learning rate; a fit that never rose
    begins again with other random weights.

    Parameters
    ----------
    start
        A BAM. The fit begins with its final layer; attention weights that are zero begin at random.
    examples
        Training examples, from :func:`research.gradients.examples.record`.
    validation
        Examples of other prompts, by which the best vector is chosen.
    on_step
        Is told the step, and the part of the importance that was kept in it.

    Returns
    -------
    Tensor
        (4172,) float32: the best vector, which may be the start.

    Raises
    ------
    UsageError
        The start is no BAM, or there are no examples.
    """
    _check(start, examples, validation)
    random, restarts, rate = Random(settings.seed), 0, settings.learning_rate
    best, most = start.parameters, importance_kept(start, validation, CHECK_FRACTION)
    at_start, random_weights = most, not _has_attention(start)
    vector, optimizer = _begin(start, settings.seed)
    for step in range(settings.steps):
        cooled = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
        optimizer.param_groups[0]["lr"] = rate * min(1.0, step / WARM_UP) * cooled
        kept = _descend(start, vector, optimizer, examples, random)
        if on_step is not None:
            on_step(step + 1, kept)
        if (step + 1) % CHECK_EVERY and step + 1 < settings.steps:
            continue
        fitted = replace(start, parameters=vector.detach())
        now = importance_kept(fitted, validation, CHECK_FRACTION)
        if now > most:
            best, most = vector.detach().clone(), now
        elif random_weights and most == at_start:
            restarts += 1
            vector, optimizer = _begin(start, settings.seed + 1000 * restarts)
        elif now < most - LARGEST_FALL:
            rate /= 3.0
            vector, optimizer = _optimized(best)
    return _with_threshold(best, start, examples, settings.fraction)


def _check(start: Namm, examples: Sequence[Example], validation: Sequence[Example]) -> None:
    if start.scorer != "bam" or not examples or not validation:
        raise UsageError(
            message(
                "nothing to fit",
                given=f"a start of kind {start.scorer!r} and {len(examples)} updates, "
                f"{len(validation)} for validation",
                expected="a bam, and at least one update of each",
                then="Record more or longer prompts: a prompt without an update has no example.",
            )
        )


def _has_attention(namm: Namm) -> bool:
    """Whether the attention weights are not zero, so that none of them is drawn at random."""
    parts = LAYOUTS["bam"].split(namm.parameters)
    return all(bool(parts[name].any()) for name in ("query_key_value_weight", "output_weight"))


def _begin(start: Namm, seed: int) -> tuple[Tensor, torch.optim.Optimizer]:
    """Return the start, with random attention weights where they are zero."""
    generator = torch.Generator().manual_seed(seed)
    parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(start.parameters).items()}
    # Both of them: where one is zero, no gradient reaches the other.
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
    examples: Sequence[Example],
    random: Random,
) -> float:
    """Take one step; return the part of the importance that was kept in it."""
    optimizer.zero_grad()
    total = 0.0
    for example in random.choices(examples, k=BATCH):
        if example.positions is None:
            example = _evict_some(example, random)
        scores = _scores(vector, start, example)
        loss = _importance_lost(scores, example, random.uniform(*FRACTIONS)) / BATCH
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_([vector], 1.0)
    optimizer.step()
    return 1.0 - total


def _scores(vector: Tensor, namm: Namm, example: Example) -> Tensor:
    """Return the scores (sequence, slot) of a vector; `namm` gives the features."""
    features = namm.features(example.spectrum.float(), example.age)
    return Bam.from_vector(vector).score(features[None], example.lengths[None])[0]


def _evict_some(example: Example, random: Random) -> Example:
    """Return the example without some tokens, the same in all heads."""
    slots = example.spectrum.shape[1]
    evicted = random.uniform(-EVICTED, EVICTED)
    stays = [i < SINKS or slots - i <= RECENTS or random.random() > evicted for i in range(slots)]
    left = torch.tensor(stays)
    importance = normalised(example.importance[:, left])
    return Example(example.spectrum[:, left], importance, example.tokens[:, left])


def _importance_lost(scores: Tensor, example: Example, fraction: float) -> Tensor:
    """Return the importance outside of a soft cache, plus the deviation of its size."""
    filled = example.tokens >= 0
    known = scores.detach()[filled]
    kept = min(fraction * example.seen * len(scores), (1.0 - MARGIN) * len(known))
    limit = known.kthvalue(max(1, round(len(known) - kept))).values
    softness = 0.5 * (known - limit).abs().median().clamp_min(1e-4)
    gates = torch.sigmoid((scores[filled] - limit) / softness)
    lost = 1.0 - (gates * example.importance[filled]).sum()
    return lost + (gates.sum() - kept).abs() / len(known)


def _with_threshold(
    vector: Tensor, namm: Namm, examples: Sequence[Example], fraction: float
) -> Tensor:
    """Return the vector, its final bias moved so that `fraction` of the tokens score 0 or more."""
    with torch.no_grad():
        scores = torch.cat([_scores(vector, namm, s)[s.tokens >= 0] for s in examples])
    limit = scores.kthvalue(max(1, round((1.0 - fraction) * len(scores)))).values
    parts = {name: part.clone() for name, part in LAYOUTS["bam"].split(vector).items()}
    parts["score_bias"] -= limit
    return LAYOUTS["bam"].join(parts)
