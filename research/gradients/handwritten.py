"""A NAMM written by hand, to stand in until one has been evolved.

It uses the official 4,172 parameters, nearly all of them zero, for a rule that can be said in a
sentence: **keep a token that still receives attention, and ask a little less of recent ones**.
With E the exponential mean of the first frequency bin (attention received, slowly forgotten),
token i scores ::

    score_i = (E_i - price * (1 - recency * cos(age_i / 223.6))) / deviation

and stays at 0 or more. The attention that a query spends sums to 1 over the tokens, so a fixed
price bounds the cache. And as long as fewer than 1 / (1 - gamma) tokens were seen, the mean of E
does not depend on how many: attention is spread thinner, but was collected for longer. So one
price does for short and long sequences alike. More than a little for recent tokens does harm:
what a question asks for was mostly said long before.

The same rule on ``relative`` attention: keep a token that receives at least the part `SHARE` of an
equal share, as a mean over the queries since it came. This is the same demand in any context,
however short; but nothing bounds the cache any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from namm_mm.namm.network import Namm
from namm_mm.namm.params import AGE_FEATURES, LAYOUTS

# With updates every 128 tokens attention has to be remembered for about a thousand: at the
# published 0.99 a burst of it is gone after two updates.
GAMMA = 0.999
INTERVAL = 128
PRICE = 0.0065
RECENCY = 0.05
SHARE = 0.3
EQUAL = 16.0  # first bin of a signal of 1: the sum of the window

_RECEIVED = AGE_FEATURES  # feature of the first frequency bin
_RECENT = AGE_FEATURES // 2 + 2  # cos(age * 50000^(-2/4)): falls from 1 to -1 over 700 tokens


def parameters(
    mean: Tensor, variance: Tensor, *, price: float = PRICE, recency: float = RECENCY
) -> Tensor:
    """Write the rule into a flat vector.

    Parameters
    ----------
    mean, variance
        (17,) statistics that the features are normalised with; the vector undoes them.
    price
        Attention that a token needs, in units of E.
    recency
        Part of the price that the newest token is let off.

    Returns
    -------
    Tensor
        (4172,) float32.
    """
    parts = {name: torch.zeros(shape) for name, shape in LAYOUTS["bam"].shapes.items()}
    deviation = variance[0].sqrt()
    parts["score_weight"][_RECEIVED] = 1.0
    parts["score_weight"][_RECENT] = price * recency / deviation
    parts["score_bias"][0] = (mean[0] - price) / deviation
    return LAYOUTS["bam"].join(parts)


def provisional(
    mean: Tensor, variance: Tensor, card: Mapping[str, Any], *, relative: bool = False
) -> Namm:
    """Make the stand-in for given statistics; `card` says where these come from."""
    price = SHARE * EQUAL if relative else PRICE
    return Namm(
        parameters=parameters(mean, variance, price=price),
        relative=relative,
        mean=mean,
        variance=variance,
        gamma=GAMMA,
        interval=INTERVAL,
        card=card,
    )
