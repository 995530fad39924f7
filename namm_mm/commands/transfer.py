"""Run an experiment: every cell is one adapter on one task under several policies.

  namm-mm transfer                                  the pocket experiment
  namm-mm transfer experiment=NAME                  another one; `namm-mm list` shows them
  namm-mm transfer limit=4                          at most four samples in every cell
  namm-mm transfer 'policies=[full,namm,h2o]' 'budgets=[match:namm,fraction:0.25]'
  namm-mm transfer cells.text.interval=64 cells.text.adapter.model=FOLDER
  namm-mm transfer checkpoint=FILE.safetensors      another NAMM, in all cells
  namm-mm transfer '~cells.video'                   without one cell
  namm-mm transfer shard=1/4                        every fourth sample: one process for each GPU
  namm-mm transfer folder=FOLDER                    go on with a run that was stopped there
  namm-mm transfer execution=ray execution.workers=4 execution.gpus_per_worker=1
                                                    samples in workers, here or on a Ray cluster

Options:
  --configs FOLDER   search a folder of your own configurations too
  --show             print the resolved configuration and its hash, and stop
  --plan             print what would run: downloads, memory, time; nothing is fetched
  --gpu NAME         plan for another device: h100, a100, l4, rtx4090 ..., or several: h100x4
  --json             the plan as JSON

A shard goes on with OUTPUT/NAME/shard-I-of-N; `namm-mm report RUN RUN --merge FOLDER` joins them.
The run folder is OUTPUT/NAME/TIME (output=runs): records.jsonl, config.yaml, report.html, wandb/.
W&B stays offline unless WANDB_MODE=online or wandb=online.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from namm_mm.commands.planning import PLAN_OPTIONS, print_plan
from namm_mm.commands.running import run_and_report
from namm_mm.experiment.reading import from_mapping

if TYPE_CHECKING:
    from namm_mm.commands.compose import Call

OPTIONS = {"configs": True, "show": False, **PLAN_OPTIONS}


def main(call: Call) -> int:
    """Run the verb."""
    settings = from_mapping(call.compose("transfer"))
    if "plan" in call.options:
        return print_plan(settings, call.options)
    return run_and_report(settings, "transfer", show="show" in call.options)
