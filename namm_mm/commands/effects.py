"""What a command line sets for all cells and some policies do not take: it is told or refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from namm_mm.commands.overrides import Override
from namm_mm.errors import UsageError, message
from namm_mm.experiment.checkpoints import checkpoints
from namm_mm.experiment.settings import OWN_BUDGET, ExperimentSettings, PolicySettings
from namm_mm.policies import create
from namm_mm.policies.base import KeepAll

NOTHING = "it evicts nothing"


def unreached(
    settings: ExperimentSettings, overrides: Iterable[Override], config: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a note for each override that does not reach some policies.

    Parameters
    ----------
    settings
        What was read from `config`.
    overrides
        The words of the command line.
    config
        The composed configuration, with the values of those words.

    Raises
    ------
    UsageError
        An override reaches no policy at all.
    """
    for override in overrides:
        if override.key == "budgets":
            yield from _budgets(settings, override)
        if override.key == "checkpoint":
            yield from _checkpoint(settings, override, config.get("checkpoint"))


def _budgets(settings: ExperimentSettings, override: Override) -> Iterator[str]:
    given = [word.strip(" '\"") for word in str(override.value).strip("[]").split(",")]
    reached: dict[str, None] = {}
    others: dict[str, list[str]] = {}
    for cell in settings.cells:
        for policy in cell.policies:
            reason = _reason(policy, given)
            if reason:
                others.setdefault(f"{policy.name} ({reason})", []).append(cell.name)
            else:
                reached[policy.name] = None
    if not reached:
        raise UsageError(
            message(
                "this setting has no effect: no policy takes it",
                given=override.text,
                expected=f"a policy without a budget of its own; here are {_and(others)}",
                then=ADVICE,
            )
        )
    others.pop(f"full ({NOTHING})", None)  # nobody expects it to take a budget
    if others:
        told = [f"{who} in {_and(cells)}" for who, cells in others.items()]
        yield f"{override.text} holds for {_and(reached)}, and not for {_and(told)}. {ADVICE}"


ADVICE = "Give such a policy its budget in `policies`: {name: namm, budget: pool:0.25}."


def _reason(policy: PolicySettings, given: Collection[str]) -> str:
    """Why a policy does not run under any of the `given` budgets; empty if it does."""
    if policy.budget != OWN_BUDGET:
        return "" if policy.budget in given else f"its own budget {policy.budget}"
    built = create(policy.name, **policy.options)
    if built.reencodes:
        return "its sizes are tokens:N"
    if isinstance(built.selection, KeepAll):
        return NOTHING
    return "" if OWN_BUDGET in given else f"its own budget {built.selection.describe()}"


def _checkpoint(
    settings: ExperimentSettings, override: Override, checkpoint: object
) -> Iterator[str]:
    namms = [
        (cell.name, given)
        for cell in settings.cells
        for policy in cell.policies
        for given in checkpoints(policy.name, policy.options)
    ]
    others = [(cell, given) for cell, given in namms if given != str(checkpoint)]
    if len(others) == len(namms):
        raise UsageError(
            message(
                "this setting has no effect: no policy takes it",
                given=override.text,
                expected="a policy `namm` that names no checkpoint of its own",
            )
        )
    for cell, given in dict.fromkeys(others):
        yield f"{override.text} does not hold for `namm` with checkpoint {given} in {cell}."


def _and(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
