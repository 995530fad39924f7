"""How a policy wants to be run: its interval and its storage, unless others are given."""

from __future__ import annotations

from namm_mm.policies.base import Policy, Threshold

INTERVAL = 512
"""Tokens between two evictions of a policy that names no interval."""

STORAGE = "shared"
"""The storage of a policy that names none."""


def interval_for(policy: Policy, given: int | None = None) -> int:
    """Return the interval to run `policy` with: the given one, its own, or the default."""
    if given is not None:
        return given
    return INTERVAL if policy.interval is None else policy.interval


def storage_for(policy: Policy, given: str | None = None) -> str:
    """Return the storage to run `policy` with: the given one, its own, or the default."""
    return given or policy.storage or STORAGE


def mismatch(policy: Policy, interval: int, storage: str) -> str:
    """Return what is wrong with a threshold that runs under other conditions than it was set for.

    Returns
    -------
    str
        One sentence on the conditions and one on what to do; empty where nothing is wrong.
    """
    if not isinstance(policy.selection, Threshold):
        return ""
    pairs = (("interval", policy.interval, interval), ("storage", policy.storage, storage))
    wrong = [(name, own, run) for name, own, run in pairs if own is not None and own != run]
    if not wrong:
        return ""
    made = " and ".join(f"{name} {own}" for name, own, _ in wrong)
    runs = " and ".join(f"{name} {run}" for name, _, run in wrong)
    return (
        f"the threshold of {policy.name} was set for {made}, and runs with {runs}: it keeps more "
        f"or fewer tokens than it was set to keep. Leave out {' and '.join(n for n, *_ in wrong)}, "
        "or give the policy a budget, such as budget=0.25."
    )
