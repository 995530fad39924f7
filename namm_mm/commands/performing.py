"""What `transfer` and `evaluate` share: options, and what is done with the settings of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from namm_mm.commands.inspecting import INSPECT_OPTIONS, inspected
from namm_mm.commands.multirun import Read, run_sweep
from namm_mm.commands.planning import PLAN_OPTIONS, print_plan
from namm_mm.commands.running import run_and_report

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

RUN_OPTIONS = {
    "configs": True,
    "show": False,
    "multirun": False,
    **INSPECT_OPTIONS,
    **PLAN_OPTIONS,
}


def perform(verb: str, call: Call, read: Read, job_type: str) -> int:
    """Print, plan, run or sweep, as the options say; return the exit code.

    Parameters
    ----------
    verb
        Whose configuration it is.
    read
        Reads and checks settings from words.
    job_type
        What the trackers call such a run.
    """
    if "multirun" in call.options:
        return run_sweep(call, read, job_type)
    if inspected(verb, call):
        return 0
    settings = read(call.words)
    if "plan" in call.options:
        return print_plan(settings, call.options)
    return run_and_report(settings, job_type, show="show" in call.options)
