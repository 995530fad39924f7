"""Notes on an experiment that stand in every report: what a reader of its numbers must know."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from namm_mm.experiment.settings import OWN_BUDGET, ExperimentSettings
from namm_mm.policies import budgets, create, preferences
from namm_mm.policies.base import Budget


def threshold_notes(settings: ExperimentSettings) -> Iterator[str]:
    """Yield a note for each threshold that runs at an interval or storage it was not set for.

    Each note is one sentence on what differs and one on what to do, with the cells it holds for.
    """
    found: dict[str, list[str]] = {}
    for cell in settings.cells:
        for chosen in cell.policies:
            if budgets.matched_policy(chosen.budget) is not None:
                continue
            policy = create(chosen.name, **chosen.options)
            if chosen.budget != OWN_BUDGET:
                policy = dataclasses.replace(policy, budget=chosen.budget)
            wrong = preferences.mismatch(policy, cell.interval, cell.storage)
            if wrong and cell.name not in found.setdefault(wrong, []):
                found[wrong].append(cell.name)
    for wrong, cells in found.items():
        yield f"in {', '.join(cells)}: {wrong}"


def policy_notes(settings: ExperimentSettings) -> Iterator[str]:
    """Yield a note for each bound, and for each budget that is not of all layers.

    A reader who compares rows of a table must know both.
    """
    for chosen in (policy for cell in settings.cells for policy in cell.policies):
        policy = create(chosen.name, **chosen.options)
        given = budgets.matched_policy(chosen.budget) is not None
        if not given and chosen.budget != OWN_BUDGET:
            policy = dataclasses.replace(policy, budget=chosen.budget)
        if policy.repeats:
            yield (
                f"{policy.name} reads its prompt twice before anything is evicted: an upper bound, "
                "and no streaming policy"
            )
        selection = policy.selection
        if not isinstance(selection, Budget) or selection.bytewise or given:
            continue
        if selection.whole_layers:
            yield (
                f"{policy.name} keeps every token of its first {selection.whole_layers} layers, as "
                "published: its budget is that of the others"
            )
