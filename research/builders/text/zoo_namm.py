"""``namm-mm build zoo-namm``: evolve a NAMM on the models of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.namm import Namm
from research.zoo.evolution import ZooEvolution, evolve
from research.zoo.recipes import LEFT_OUT, RECIPES, recipe
from research.zoo.variants import VARIANTS


@dataclass(frozen=True)
class BuildZooNamm(Builder):
    """Evolves a NAMM on several small models under evictions; it continues where it was stopped.

    Attributes
    ----------
    out
        Folder of the state and the logs.
    variant
        ``published``, ``relative`` or ``logarithm``.
    subspace
        ``score``, ``output`` or ``all`` parameters.
    start
        A NAMM to begin from; zeros by default.
    models, left_out
        Models of the zoo to evolve on, and to validate on.
    generations, sigma, seed
        Of the search.
    minutes
        Stop after the generation in which so many minutes have passed.
    """

    out: Path
    variant: str = "relative"
    subspace: str = "score"
    start: str = ""
    models: Sequence[str] = tuple(name for name in RECIPES if name not in LEFT_OUT)
    left_out: Sequence[str] = LEFT_OUT
    generations: int = 200
    sigma: float = 0.2
    seed: int = 0
    minutes: float = 60.0

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the folder."""
        for name in (*self.models, *self.left_out):
            recipe(name)
        if self.variant not in VARIANTS:
            raise UsageError(
                message("unknown variant", given=self.variant, expected="one", valid=VARIANTS)
            )
        settings = ZooEvolution(
            variant=self.variant,
            subspace=self.subspace,
            trained=tuple(self.models),
            left_out=tuple(self.left_out),
            generations=self.generations,
            sigma=self.sigma,
            seed=self.seed,
        )
        start = Namm.from_pretrained(self.start).parameters if self.start else None
        evolve(settings, Path(self.out), start, minutes=self.minutes, say=say)
        return Path(self.out)
