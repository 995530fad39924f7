"""Experiments: adapter x task x policies x budgets x seeds, giving records.

::

    from namm_mm.experiment import run
    from namm_mm.experiment.reading import from_mapping

    outcome = run(from_mapping({"name": "mine", "cells": {...}}))
"""

from namm_mm.experiment.runner import Outcome, run

__all__ = ["Outcome", "run"]
