"""What can be known to be wrong with an evolution before any model loads."""

from __future__ import annotations

from collections.abc import Iterator

from namm_mm.errors import NammError, message
from namm_mm.evolution import fitness
from namm_mm.evolution.search import FITTED, indices
from namm_mm.evolution.stages import EvolutionSettings, StageSettings
from namm_mm.evolution.start import check_start
from namm_mm.execution import settings as execution
from namm_mm.experiment import check as validation
from namm_mm.namm.params import LAYOUTS
from namm_mm.policies import budgets
from namm_mm.registry.reader import Choice
from namm_mm.tasks.base import is_acting


def problems(settings: EvolutionSettings) -> Iterator[str]:
    """Yield one sentence or two for everything that is wrong."""
    yield from validation.output_problems(settings.folder or settings.output)
    yield from execution.problems(settings.execution)
    yield from _adapter_problems(settings.adapter)
    layout = LAYOUTS["bam"]
    try:
        layout = check_start(settings.start)
    except NammError as error:
        yield f"start: {error}"
    for stage in settings.stages:
        where = f"stages.{stage.name}."
        yield from (f"{where}{what}" for what in _stage_problems(stage))
        try:
            indices(layout, stage.subspace)
        except NammError as error:
            yield f"{where}subspace: {error}"
        if stage.steps == FITTED and settings.start.checkpoint is None and stage.subspace == "all":
            yield message(
                f"{where}steps",
                given=stage.steps,
                expected="plain: from zero there is nothing to fit steps to",
            )


def _adapter_problems(choice: Choice) -> Iterator[str]:
    from namm_mm.adapters import ADAPTERS

    if not choice.name:
        return
    built = validation.try_build(ADAPTERS, choice)
    if isinstance(built, str):
        yield f"adapter: {built}"
    elif is_acting(built):
        yield message(
            "adapter",
            given=choice.name,
            expected="one that answers: a NAMM is evolved on questions, and only moved to control",
        )
    elif not hasattr(type(built), "continuation"):
        yield message(
            "adapter",
            given=choice.name,
            expected="one that tokenises answers, with a method `continuation`, such as text",
        )
    yield from (f"adapter.model: {what}" for what in validation.model_problems(choice))


def _stage_problems(stage: StageSettings) -> Iterator[str]:
    from namm_mm.tasks import TASKS

    if stage.task.name:
        built = validation.try_build(TASKS, stage.task)
        if isinstance(built, str):
            yield f"task: {built}"
        elif is_acting(built):
            yield message("task", given=stage.task.name, expected="one that asks questions")
    try:
        if budgets.matched_policy(stage.budget) is not None or stage.budget == "full":
            yield message(
                "budget",
                given=stage.budget,
                expected="threshold, threshold:N, tokens:N or fraction:F",
            )
        else:
            budgets.parse(stage.budget)
    except NammError as error:
        yield f"budget: {error}"
    if stage.pool is not None and stage.prompts > stage.pool:
        yield message(
            "prompts", given=stage.prompts, expected=f"at most the pool of {stage.pool} prompts"
        )
    if stage.floor is not None and stage.fitness != fitness.LIKELIHOOD:
        yield message("floor", given=stage.floor, expected="nothing: ratios have no floor")
    if stage.price and stage.allowance >= 1:
        yield message("allowance", given=stage.allowance, expected="a part of the tokens, below 1")
