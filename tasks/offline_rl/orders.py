"""Orders that are shown once: control in which the oldest tokens matter most.

Early in an episode an agent sees the orders of all parts of the episode, and never again: all other
observations have zeros in their place. Every observation tells the current part, so that an agent
only has to remember; without memory it has to guess in each part. The orders do not come with the
very first step, because many policies always keep its tokens.

A HalfCheetah is told in which direction to run: the HalfCheetah-Dir of meta reinforcement learning
(Finn et al., 2017, arXiv:1703.03400), whose goal changes at known times and is hidden instead of
learned. A Hopper and a Walker2d, which fall when they run backwards, are told in which parts their
motors turn the other way round; without that knowledge they fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENVIRONMENTS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
DIRECTED = "HalfCheetah"
"""The body whose orders are directions; those of the others are the signs of their motors."""
ORDERS = 5
"""Parts of an episode, each with its own order, +1 or -1."""
PART = 50
"""Steps of each part."""
FIRST = 1
SHOWN = 3
"""Number of steps in which all orders are shown, from step `FIRST` on."""
STEPS = ORDERS * PART
"""Steps of an episode, unless it falls."""


def shown_once(
    reminded: NDArray[np.float32], bounds: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """Return observations with orders shown once, from those of a policy that is always reminded.

    The orders of parts that an episode did not reach are unknown and drawn at random: nothing in
    the episode depends on them.

    Parameters
    ----------
    reminded
        (transition, state + 1): the order of the current part is the last number.
    bounds
        First transition of each episode, and one past its last; at most `STEPS` transitions each.

    Returns
    -------
    ndarray
        (transition, state + 2 * ORDERS): all orders in the steps that show them, zeros elsewhere;
        then a one for the current part, zeros for the others.
    """
    seen = np.zeros((len(reminded), reminded.shape[1] - 1 + 2 * ORDERS), dtype=np.float32)
    seen[:, : -2 * ORDERS] = reminded[:, :-1]
    unreached = np.random.default_rng(0)
    for start, end in bounds:
        orders = unreached.choice(np.array([-1.0, 1.0], np.float32), ORDERS)
        reached = reminded[start:end:PART, -1]
        orders[: len(reached)] = reached
        seen[start + FIRST : min(start + FIRST + SHOWN, end), -2 * ORDERS : -ORDERS] = orders
        seen[start:end, -ORDERS:] = np.repeat(np.eye(ORDERS), PART, axis=0)[: end - start]
    return seen


def orders_of(seen: NDArray[np.float32], bounds: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Return (transition, ORDERS + 1): all orders of its episode, and the order of its part.

    `seen` is (transition, state + 2 * ORDERS), as :func:`shown_once` gives it.
    """
    orders = np.empty((len(seen), ORDERS + 1), dtype=np.float32)
    for start, end in bounds:
        orders[start:end, :ORDERS] = seen[start + FIRST, -2 * ORDERS : -ORDERS]
    orders[:, ORDERS] = (orders[:, :ORDERS] * seen[:, -ORDERS:]).sum(axis=1)
    return orders


def check_orders(environment: str, *, hidden_velocities: bool) -> None:
    """Raise a `UsageError` unless orders can be given in `environment`."""
    if environment not in ENVIRONMENTS or hidden_velocities:
        raise UsageError(
            message(
                "orders cannot be given here",
                given=f"{environment}, hidden_velocities={hidden_velocities}".lower(),
                expected=f"{', '.join(ENVIRONMENTS)}, with visible velocities",
            )
        )
