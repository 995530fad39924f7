"""``namm-mm build smollm2``: convert the packaged SmolLM2-135M now instead of at first use."""

from __future__ import annotations

from pathlib import Path

from namm_mm.models import packaged as packaged_model

NAME = "smollm2-135m-instruct"


def build() -> Path:
    """Return the folder of the converted model; see :func:`namm_mm.models.packaged.convert`."""
    return packaged_model.convert(packaged_model.MODELS[NAME])
