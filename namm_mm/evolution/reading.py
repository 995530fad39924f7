"""Read an evolution from a plain mapping, and check all of it before a model loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError
from namm_mm.evolution import fitness
from namm_mm.evolution.search import STEPS, SUBSPACES
from namm_mm.evolution.stages import STRATEGIES, EvolutionSettings, StageSettings, StartSettings
from namm_mm.execution import settings as execution_settings
from namm_mm.experiment.reading import listed
from namm_mm.experiment.settings import WANDB_MODES
from namm_mm.records import STORAGES
from namm_mm.registry.reader import Choice, Reader

KEYS = tuple(EvolutionSettings.__dataclass_fields__)


START_KEYS = tuple(StartSettings.__dataclass_fields__)


STAGE_KEYS = tuple(key for key in StageSettings.__dataclass_fields__ if key != "name")


def from_mapping(data: Mapping[str, Any]) -> EvolutionSettings:
    """Make settings from plain values and check them all.

    Raises
    ------
    UsageError
        One message for all problems.
    """
    from namm_mm.evolution import check

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


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs between two plain mappings: ``stages.first.sigma: 0.1 -> 0.2``."""
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    return [
        f"{key}: {before.get(key, 'nothing')!r} -> {after.get(key, 'nothing')!r}"
        for key in sorted({*before, *after})
        if before.get(key, "nothing") != after.get(key, "nothing")
    ]


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _start(parent: Reader) -> StartSettings:
    reader = Reader(parent.data.get("start") or {}, "start.", parent.problems)
    reader.allow(START_KEYS)
    given = reader.data.get("checkpoint")
    default = StartSettings()
    return StartSettings(
        checkpoint=reader.text("checkpoint", "") if given is not None else None,
        bias=reader.number("bias", default.bias, minimum=0.0),
        gamma=reader.number("gamma", default.gamma, minimum=0.0, above=True),
        interval=reader.integer("interval", default.interval, minimum=1) or 1,
        statistics_prompts=reader.integer(
            "statistics_prompts", default.statistics_prompts, minimum=1
        )
        or 1,
        statistics_clip=(
            reader.optional("statistics_clip")
            if "statistics_clip" in reader.data
            else default.statistics_clip
        ),
        relative=reader.boolean("relative", default.relative),
    )


def _stage(name: str, data: Any, parent: Reader) -> StageSettings:
    reader = Reader(data, f"stages.{name}.", parent.problems)
    reader.allow(STAGE_KEYS)
    default = StageSettings(name, Choice(""))

    def count(key: str, minimum: int = 1) -> int:
        standard: int = getattr(default, key)
        return reader.integer(key, standard, minimum=minimum) or standard

    return StageSettings(
        name=name,
        task=reader.choice("task"),
        generations=count("generations"),
        strategy=reader.one_of("strategy", STRATEGIES, default.strategy),
        subspace=reader.one_of("subspace", SUBSPACES, default.subspace),
        steps=reader.one_of("steps", STEPS, default.steps),
        population=count("population", 4),
        sigma=reader.number("sigma", default.sigma, minimum=0.0, above=True),
        prompts=count("prompts"),
        pool=reader.integer("pool", None, minimum=1),
        fitness=reader.one_of("fitness", fitness.KINDS, default.fitness),
        price=reader.number("price", 0.0, minimum=0.0),
        allowance=reader.number("allowance", 0.0, minimum=0.0),
        floor=reader.optional("floor"),
        budget=reader.text("budget", default.budget),
        storage=reader.one_of("storage", STORAGES, default.storage),
        validation_prompts=count("validation_prompts"),
        validate_every=count("validate_every"),
        average=reader.integer("average", 0, minimum=0) or 0,
    )
