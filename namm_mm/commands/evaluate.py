"""Run one adapter on one task under one policy.

  namm-mm evaluate                                  SmolLM2 on long_text under the NAMM
  namm-mm evaluate adapter=llava_video task=video_qa policy=h2o budget=tokens:128
  namm-mm evaluate policy=namm budget=fraction:0.3  the NAMM keeps 30 % of the tokens
  namm-mm evaluate policy=full limit=8 task.words=600
  namm-mm evaluate --multirun policy=h2o,snapkv budget=0.1,0.25     four runs, one report
  namm-mm evaluate interval=64 storage=shared       by default those of the policy

Budgets: tokens:64, fraction:0.25, pool:0.25 (storage=per_head), threshold (the NAMM), and own, the
policy's own rule, which is the default. A budget of match:POLICY needs that policy's run on the
same samples: `namm-mm transfer` runs them together.

Options, as those of `namm-mm transfer`:
  --configs FOLDER                            a folder of your own configurations
  --multirun                                  one run for each combination of KEY=A,B
  --show, --cfg job, --info defaults-tree     print the configuration, and stop
  --plan, --json, --gpu NAME                  print downloads, memory and time, and stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from namm_mm.commands.compose import compose
from namm_mm.commands.performing import RUN_OPTIONS, perform
from namm_mm.experiment.reading import from_evaluation

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS = RUN_OPTIONS


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    return perform(
        "evaluate",
        call,
        lambda words: from_evaluation(compose("evaluate", words, call.configs)),
        "eval",
    )
