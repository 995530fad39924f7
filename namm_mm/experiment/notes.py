"""Notes on an experiment that stand in every report: what a reader of its numbers must know."""

from __future__ import annotations

from collections.abc import Iterator

from namm_mm.experiment.settings import OWN_BUDGET, ExperimentSettings, PolicySettings
from namm_mm.policies import create
from namm_mm.policies.base import Policy
from namm_mm.policies.budgets import Threshold

ADVICE = (
    "Leave out interval and storage, give a size such as tokens:64, or set the threshold anew with "
    "`namm-mm build threshold`."
)


def threshold_notes(settings: ExperimentSettings) -> Iterator[str]:
    """Yield a note for each policy whose threshold runs where it was not set.

    A threshold is set for one interval and one storage. Elsewhere the network sees other attention,
    and the same threshold keeps another part of the tokens.
    """
    found: dict[str, list[str]] = {}
    for cell in settings.cells:
        for policy in cell.policies:
            built = create(policy.name, **policy.options)
            if not _has_threshold(built, policy):
                continue
            made = {"interval": built.interval, "storage": built.storage}
            made = {key: value for key, value in made.items() if value is not None}
            here = {"interval": cell.interval, "storage": cell.storage}
            others = [f"{key} {here[key]}" for key in made if here[key] != made[key]]
            if others:
                what = " and ".join(f"{key} {value}" for key, value in made.items())
                cells = found.setdefault(f"the threshold of {policy.name} was set at {what}", [])
                where = f"{cell.name} ({', '.join(others)})"
                cells += [] if where in cells else [where]
    for what, cells in found.items():
        yield f"{what}; it keeps another part of the tokens in {', '.join(cells)}. {ADVICE}"


def _has_threshold(policy: Policy, settings: PolicySettings) -> bool:
    """Whether a policy keeps what scores 0 or more, by its own rule or by its budget."""
    if settings.budget == OWN_BUDGET:
        return isinstance(policy.selection, Threshold)
    return settings.budget.partition(":")[0] == "threshold"
