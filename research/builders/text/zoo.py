"""``namm-mm build zoo``: train small language models that need their memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from namm_mm.commands.build import Builder
from namm_mm.models.cache import cache_root
from research.zoo.recipes import RECIPES, recipe
from research.zoo.training import train


@dataclass(frozen=True)
class BuildZoo(Builder):
    """Trains the models of the zoo, one after the other; those that are in the cache are skipped.

    Attributes
    ----------
    models
        Their names; all by default.
    """

    models: Sequence[str] = tuple(RECIPES)

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the cache, which holds a folder for each model."""
        for name in self.models:
            recipe(name)
        for name in self.models:
            train(name, say)
        return cache_root()
