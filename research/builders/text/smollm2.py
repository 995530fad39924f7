"""``namm-mm build smollm2``: convert the packaged SmolLM2-135M now instead of at first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from namm_mm.commands.build import Builder
from namm_mm.models import packaged

NAME = "smollm2-135m-instruct"


@dataclass(frozen=True)
class BuildSmolLM2(Builder):
    """Converts the packaged SmolLM2; see :func:`namm_mm.models.packaged.convert`."""

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the folder of the converted model."""
        return packaged.convert(packaged.MODELS[NAME])
