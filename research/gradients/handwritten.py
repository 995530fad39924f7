"""A NAMM written by hand, from which evolutions start.

It uses the official 4,172 parameters, nearly all of them zero, for a simple rule: **keep a token
that still receives attention, and demand a little less of recent tokens**. With E the exponential
mean of the first frequency bin (a slow average of the attention received), token i scores ::

    score_i = (E_i - threshold * (1 - discount * cos(age_i / 223.6))) / deviation

and is kept at 0 or more. The attention of one query sums to 1 over the tokens, so that a fixed
threshold bounds the cache. As long as fewer than 1 / (1 - gamma) tokens were seen, the mean of E
does not depend on their number: each token receives less of every query, but from more queries.
One threshold therefore serves short and long sequences. A large discount of recent tokens does
harm: the answer to a question was mostly read long before.

The same rule on ``relative`` attention keeps a token that receives at least `RELATIVE_THRESHOLD` of
an equal share, as a mean over the queries since it was read. This demand is the same in contexts of
all lengths, but it does not bound the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from namm_mm.namm.network import Namm
from namm_mm.namm.params import AGE_FEATURES, LAYOUTS

# With updates every 128 tokens attention has to be remembered for about a thousand tokens: at the
# published 0.99 a burst of attention is forgotten after two updates.
GAMMA = 0.999
INTERVAL = 128
THRESHOLD = 0.0065
DISCOUNT = 0.05
RELATIVE_THRESHOLD = 0.3
EQUAL_SHARE = 16.0  # first bin of a signal of 1: the sum of the window

_RECEIVED = AGE_FEATURES  # feature of the first frequency bin
_RECENT = AGE_FEATURES // 2 + 2  # cos(age * 50000^(-2/4)): falls from 1 to -1 over 700 tokens


def parameters(
    mean: Tensor, variance: Tensor, *, threshold: float = THRESHOLD, discount: float = DISCOUNT
) -> Tensor:
    """Return the rule as a flat vector.

    Parameters
    ----------
    mean, variance
        (17,) statistics that the features are normalised with; the vector undoes them.
    threshold
        Attention that a token needs, in units of E.
    discount
        Fraction by which the threshold is lower for the newest token.

    Returns
    -------
    Tensor
        (4172,) float32.
    """
    parts = {name: torch.zeros(shape) for name, shape in LAYOUTS["bam"].shapes.items()}
    deviation = variance[0].sqrt()
    parts["score_weight"][_RECEIVED] = 1.0
    parts["score_weight"][_RECENT] = threshold * discount / deviation
    parts["score_bias"][0] = (mean[0] - threshold) / deviation
    return LAYOUTS["bam"].join(parts)


def handwritten(
    mean: Tensor, variance: Tensor, card: Mapping[str, Any], *, relative: bool = False
) -> Namm:
    """Return the hand-written NAMM for given statistics; `card` says where these come from."""
    threshold = RELATIVE_THRESHOLD * EQUAL_SHARE if relative else THRESHOLD
    return Namm(
        parameters=parameters(mean, variance, threshold=threshold),
        relative=relative,
        mean=mean,
        variance=variance,
        gamma=GAMMA,
        interval=INTERVAL,
        card=card,
    )
