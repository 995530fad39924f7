"""The card of an evolved NAMM: how it was made, from what, and what it scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.evolution.start import LICENCE
from namm_mm.runs import provenance

if TYPE_CHECKING:
    from namm_mm.evolution.settings import EvolutionSettings, StageSettings
    from namm_mm.evolution.state import Position
    from namm_mm.namm import Namm


def evolved_card(
    settings: EvolutionSettings, position: Position, start: Namm, model: str
) -> dict[str, Any]:
    """Return the card of the best NAMM of a run.

    Parameters
    ----------
    position
        The position of the run.
    start
        The NAMM that the search started from.
    model
        Name of the language model.
    """
    stages = settings.stages[: position.stage + 1]
    given = settings.start.checkpoint
    origin = f"the NAMM {Path(given).stem!r}" if given else "zeros with a bias"
    generations = sum(stage.generations for stage in stages[:-1]) + max(position.best_generation, 0)
    if generations:
        about = f"evolved on text: {generations} generations of CMA-ES on {model}, from {origin}"
    else:
        about = f"{origin}, unchanged: no generation was better on the validation prompts"
    card: dict[str, Any] = {
        "about": about,
        "evolved": bool(generations),
        "made_by": f"namm-mm evolve evolution={settings.name}",
        "licence": LICENCE,
        "training": {
            "stages": {stage.name: _training(stage) for stage in stages},
            "seed": settings.seed,
            "config_hash": settings.config_hash,
            "commit": provenance.commit(),
            "generations": position.total,
            "hours": round(position.seconds / 3600, 2),
        },
        "scores": {
            "validation prompts": stages[-1].validation_prompts,
            "validation fitness": position.best_fitness,
            "fraction of the tokens kept": round(position.best_kept, 4),
            "validation fitness of the start": position.start_fitness,
            "fraction of the tokens kept by the start": round(position.start_kept, 4),
        },
    }
    if "statistics" in start.card:
        card["statistics"] = start.card["statistics"]
    return card


def _training(stage: StageSettings) -> str:
    families = stage.task.options.get("families")
    what = f"{stage.task.name}: {', '.join(families)}" if families else stage.task.name
    averaged = f"best of the mean and the average of {stage.average} means; " * bool(stage.average)
    return (
        f"{stage.strategy}, population {stage.population}, parameters: {stage.subspace}, sigma "
        f"{stage.sigma:g} ({stage.steps} steps), {stage.prompts} prompts a generation, fitness "
        f"{stage.fitness}, penalty {stage.penalty:g} beyond {stage.free_fraction:g}, "
        f"{stage.budget}; {averaged}{what}"
    )
