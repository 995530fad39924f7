"""Experiments: adapter x task x policies x budgets x seeds, giving records.

::

    from namm_mm.experiment import run
    from namm_mm.experiment.reading import from_mapping

    outcome = run(from_mapping({"name": "mine", "cells": {...}}))

Settings are light; torch loads with `run`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namm_mm.experiment.runner import Outcome, run

__all__ = ["Outcome", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("namm_mm.experiment.runner"), name)
    raise AttributeError(f"module 'namm_mm.experiment' has no attribute {name!r}")
