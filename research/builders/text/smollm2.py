"""``namm-mm build smollm2``: convert the packaged SmolLM2-135M now instead of at first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.models import packaged
from namm_mm.registry.bundled import ASSETS, Bundled

NAME = "smollm2-135m-instruct"


def file_for(model: str, out: Path | None, kind: Bundled) -> Path:
    """Return `out`; None is the bundled file of SmolLM2, or of another bundled model.

    Raises
    ------
    UsageError
        There is no `out` for another model: the bundled file would be overwritten.
    """
    if out is None and (ASSETS / model).is_dir():
        return kind.path(model)
    if out is None and model != NAME:
        raise UsageError(
            message(
                f"no file for the {kind.what} of another model than {NAME}",
                given=f"model={model} without out",
                expected=f"out=FILE{kind.suffix}",
            )
        )
    return out or kind.path("smollm2")


@dataclass(frozen=True)
class BuildSmolLM2(Builder):
    """Converts the packaged SmolLM2; see :func:`namm_mm.models.packaged.convert`."""

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the folder of the converted model."""
        return packaged.convert(packaged.MODELS[NAME])
