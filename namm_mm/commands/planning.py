"""``--plan`` of `transfer` and `evaluate`: print what would run, and stop."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from namm_mm.plan import as_mapping, lines, named_device, plan

if TYPE_CHECKING:
    from namm_mm.experiment.settings import ExperimentSettings

PLAN_OPTIONS = {"plan": False, "json": False, "gpu": True}


def print_plan(settings: ExperimentSettings, options: Mapping[str, str]) -> int:
    """Print the plan; the exit code is 1 where something certainly does not fit.

    Raises
    ------
    UsageError
        ``--gpu`` names an unknown device.
    """
    device = named_device(options["gpu"]) if "gpu" in options else None
    made = plan(settings, device)
    if "json" in options:
        sys.stdout.write(json.dumps(as_mapping(made), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(lines(made)) + "\n")
    return 0 if made.fits else 1
