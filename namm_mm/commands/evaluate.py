"""Run one adapter on one task under one policy.

  namm-mm evaluate                                  SmolLM2 on long_text under the NAMM
  namm-mm evaluate adapter=llava_video task=video_qa policy=h2o budget=tokens:128
  namm-mm evaluate policy=namm budget=fraction:0.3  the NAMM keeps 30 % of the tokens
  namm-mm evaluate policy=full limit=8 task.words=600
  namm-mm evaluate interval=64 storage=shared       by default those of the policy

Budgets: tokens:64, fraction:0.25, pool:0.25 (storage=per_head), threshold (the NAMM), and own, the
policy's own rule, which is the default. A budget of match:POLICY needs that policy's run on the
same samples: `namm-mm transfer` runs them together.

Options:
  --configs FOLDER   search a folder of your own configurations too
  --show             print the resolved configuration and its hash, and stop
  --plan             print what would run: downloads, memory, time; nothing is fetched
  --gpu NAME         plan for another device: h100, a100, l4, rtx4090 ..., or several: h100x4
  --json             the plan as JSON
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from namm_mm.commands.compose import compose
from namm_mm.commands.planning import PLAN_OPTIONS, print_plan
from namm_mm.commands.running import run_and_report
from namm_mm.experiment.reading import from_evaluation

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS = {"configs": True, "show": False, **PLAN_OPTIONS}


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    settings = from_evaluation(compose("evaluate", call.words, call.configs))
    if "plan" in call.options:
        return print_plan(settings, call.options)
    return run_and_report(settings, "eval", show="show" in call.options)
