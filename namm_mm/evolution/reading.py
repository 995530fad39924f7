"""Read an evolution from a plain mapping, and check all of it before a model loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError
from namm_mm.evolution import check, fitness
from namm_mm.evolution.search_space import STEPS, SUBSPACES
from namm_mm.evolution.settings import (
    STRATEGIES,
    EvolutionSettings,
    StageSettings,
    StartSettings,
)
from namm_mm.execution import settings as execution_settings
from namm_mm.experiment.settings import WANDB_MODES
from namm_mm.records import STORAGES
from namm_mm.registry.reader import Choice, Reader, listed

KEYS = tuple(field.name for field in fields(EvolutionSettings))
START_KEYS = tuple(field.name for field in fields(StartSettings))
STAGE_KEYS = tuple(field.name for field in fields(StageSettings) if field.name != "name")
RENAMED = {"price": "penalty", "allowance": "free_fraction", "floor": "loss_clip"}
"""Keys of a stage in earlier versions, and their names now."""


def from_mapping(data: Mapping[str, Any]) -> EvolutionSettings:
    """Return checked settings, made from plain values.

    Raises
    ------
    UsageError
        One message for all problems.
    """
    reader = Reader(data, "")
    reader.allow(KEYS)
    stages = reader.mapping("stages", expected="at least one stage")
    folder = reader.data.get("folder")
    settings = EvolutionSettings(
        name=reader.text("name", "evolution"),
        adapter=reader.choice("adapter"),
        start=_start(reader),
        stages=tuple(_stage(name, stage, reader) for name, stage in stages.items()),
        seed=reader.integer("seed", 0, minimum=0) or 0,
        output=Path(reader.text("output", "runs")).expanduser(),
        folder=Path(reader.text("folder", "")).expanduser() if folder is not None else None,
        minutes=reader.optional("minutes"),
        wandb=reader.one_of("wandb", WANDB_MODES, "") or None,
        execution=execution_settings.read(reader),
    )
    problems = [*reader.problems, *check.problems(settings)]
    if problems:
        raise UsageError(listed(problems))
    return settings


def with_current_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping of a stored run, with keys of earlier versions under their names now."""
    stages = {
        name: {RENAMED.get(key, key): value for key, value in stage.items()}
        for name, stage in (data.get("stages") or {}).items()
    }
    return {**data, "stages": stages}


def _start(parent: Reader) -> StartSettings:
    reader = Reader(parent.data.get("start") or {}, "start.", parent.problems)
    reader.allow(START_KEYS)
    given = reader.data.get("checkpoint")
    default = StartSettings()
    prompts = reader.integer("statistics_prompts", default.statistics_prompts, minimum=1)
    clip = default.statistics_clip
    if "statistics_clip" in reader.data:
        clip = reader.optional("statistics_clip")
    return StartSettings(
        checkpoint=reader.text("checkpoint", "") if given is not None else None,
        bias=reader.number("bias", default.bias, minimum=0.0),
        gamma=reader.number("gamma", default.gamma, minimum=0.0, above=True),
        interval=reader.integer("interval", default.interval, minimum=1) or 1,
        statistics_prompts=prompts or 1,
        statistics_clip=clip,
        relative=reader.boolean("relative", default.relative),
    )


def _stage(name: str, data: Any, parent: Reader) -> StageSettings:
    reader = Reader(data, f"stages.{name}.", parent.problems)
    reader.allow(STAGE_KEYS, renamed=RENAMED)
    default = StageSettings(name, Choice(""))

    def count(key: str, standard: int, minimum: int = 1) -> int:
        return reader.integer(key, standard, minimum=minimum) or standard

    return StageSettings(
        name=name,
        task=reader.choice("task"),
        generations=count("generations", default.generations),
        strategy=reader.one_of("strategy", STRATEGIES, default.strategy),
        subspace=reader.one_of("subspace", SUBSPACES, default.subspace),
        steps=reader.one_of("steps", STEPS, default.steps),
        population=count("population", default.population, 4),
        sigma=reader.number("sigma", default.sigma, minimum=0.0, above=True),
        prompts=count("prompts", default.prompts),
        pool=reader.integer("pool", None, minimum=1),
        fitness=reader.one_of("fitness", fitness.KINDS, default.fitness),
        penalty=reader.number("penalty", 0.0, minimum=0.0),
        free_fraction=reader.number("free_fraction", 0.0, minimum=0.0),
        loss_clip=reader.optional("loss_clip"),
        budget=reader.text("budget", default.budget),
        storage=reader.one_of("storage", STORAGES, default.storage),
        probed=reader.boolean("probed", default.probed),
        validation_prompts=count("validation_prompts", default.validation_prompts),
        validate_every=count("validate_every", default.validate_every),
        average=reader.integer("average", 0, minimum=0) or 0,
    )
