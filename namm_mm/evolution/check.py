"""Checks of an evolution that need no loaded model."""

from __future__ import annotations

from collections.abc import Iterator

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import ActingAdapter, LanguageAdapter
from namm_mm.errors import NammError, message
from namm_mm.evolution import fitness
from namm_mm.evolution.search_space import FITTED, indices
from namm_mm.evolution.settings import EvolutionSettings, StageSettings
from namm_mm.evolution.start import check_start
from namm_mm.execution import settings as execution
from namm_mm.experiment import check as validation
from namm_mm.namm.params import LAYOUTS
from namm_mm.policies import budgets
from namm_mm.registry.reader import Choice
from namm_mm.tasks import TASKS
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
                expected="plain: a start of zeros has no scores to fit steps to",
            )


def _adapter_problems(choice: Choice) -> Iterator[str]:
    if not choice.name:
        return
    built = validation.try_build(ADAPTERS, choice)
    if isinstance(built, str):
        yield f"adapter: {built}"
    elif isinstance(built, ActingAdapter):
        yield message(
            "adapter",
            given=choice.name,
            expected="an adapter that answers questions: a NAMM is evolved on text",
        )
    elif not isinstance(built, LanguageAdapter):
        yield message(
            "adapter",
            given=choice.name,
            expected="one that tokenises answers: a LanguageAdapter, such as text",
        )
    yield from (f"adapter.model: {what}" for what in validation.model_problems(choice))


def _stage_problems(stage: StageSettings) -> Iterator[str]:
    if stage.task.name:
        built = validation.try_build(TASKS, stage.task)
        if isinstance(built, str):
            yield f"task: {built}"
        elif is_acting(built):
            yield message("task", given=stage.task.name, expected="a task that asks questions")
    if stage.probed and not stage.budget.startswith(("fraction:", "bytes:")):
        yield message(
            "probed divides a budget with a size",
            given=f"budget: {stage.budget}",
            expected="fraction:F or bytes:F",
        )
    if stage.probed and stage.storage != "per_head":
        yield message("storage", given=stage.storage, expected="per_head, which probed needs")
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
    if stage.loss_clip is not None and stage.fitness != fitness.LIKELIHOOD:
        yield message(
            "loss_clip", given=stage.loss_clip, expected="nothing: ratios are not clipped"
        )
    if stage.penalty and stage.free_fraction >= 1:
        yield message(
            "free_fraction", given=stage.free_fraction, expected="a fraction of the tokens, below 1"
        )
