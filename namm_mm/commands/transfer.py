"""Run an experiment: every cell is one adapter on one task under several policies.

  namm-mm transfer                                  the pocket experiment
  namm-mm transfer experiment=NAME                  another one; `namm-mm list` shows them
  namm-mm transfer 'cells=[text,video]'             some cells of it; '~cells.video' leaves one out
  namm-mm transfer adapter=text task=long_text      one cell, without an experiment
  namm-mm transfer limit=4 seeds=[0,1]              at most four samples in every cell, two seeds
  namm-mm transfer 'policies=[full,namm,h2o]' 'budgets=[match:namm,fraction:0.25]'
  namm-mm transfer cells.text.interval=64 cells.text.adapter.model=FOLDER
  namm-mm transfer checkpoint=FILE.safetensors      another NAMM, in all cells
  namm-mm transfer limit=4 --multirun policy=h2o,snapkv seed=0,1
                                                    four runs, and one report over all
  namm-mm transfer shard=1/4                        every fourth sample: one process for each GPU
  namm-mm transfer folder=FOLDER                    resume a run that was stopped there
  namm-mm transfer execution=ray execution.workers=4 execution.gpus_per_worker=1
                                                    samples in workers, here or on a Ray cluster

policies, budgets, interval, storage, protocol, split and limit reach every cell. A policy given by
its bare name has the options and the budget that the experiment gives it in that cell; {name: namm}
has none of them. Interval and storage are those of the NAMM where nothing names them. policy=NAME,
budget=BUDGET and seed=N are lists of one; policy=NAME also runs what its budget is matched to.

Options:
  --configs FOLDER   search a folder of your own configurations too
  --show             print the resolved configuration and its hash, and stop
  --cfg job          print the composed configuration, before it is checked, and stop
  --info defaults-tree   print the files that it is composed of, and stop
  --multirun         one run for each combination of KEY=A,B; one W&B group, one report over all
  --plan             print what would run: downloads, memory, time; nothing is fetched
  --gpu NAME         plan for another device: h100, a100, l4, rtx4090 ..., or several: h100x4
  --json             the plan as JSON

A sweep is resumed with the same command and folder=FOLDER, the folder of the sweep.
A shard resumes OUTPUT/NAME/shard-I-of-N; `namm-mm report RUN RUN --merge FOLDER` joins them.
The run folder is OUTPUT/NAME/TIME (output=runs): records.jsonl, config.yaml, report.html, wandb/.
W&B stays offline unless WANDB_MODE=online or wandb=online.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from namm_mm.commands import performing
from namm_mm.commands.compose import compose
from namm_mm.commands.effects import unreached
from namm_mm.commands.overrides import read_overrides
from namm_mm.experiment.reading import from_mapping
from namm_mm.experiment.settings import ExperimentSettings

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS = performing.RUN_OPTIONS


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    told: set[str] = set()

    def read(words: Sequence[str]) -> ExperimentSettings:
        config = compose("transfer", words, call.configs)
        settings = from_mapping(config)
        for note in unreached(settings, read_overrides(words), config):
            if note not in told:  # of a sweep, once
                sys.stderr.write(f"namm-mm: note: {note}\n")
            told.add(note)
        return settings

    return performing.perform("transfer", call, read, "transfer")
