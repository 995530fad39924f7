"""Evolve a NAMM on text with a real language model, stage by stage.

  namm-mm evolve                                    SmolLM2-135M, from the bundled NAMM
  namm-mm evolve folder=FOLDER                      start in FOLDER, or go on with the run there
  namm-mm evolve folder=FOLDER minutes=10           stop after ten minutes; continue with the same
  namm-mm evolve stages.score.generations=200 stages.score.sigma=0.2
  namm-mm evolve start.checkpoint=FILE.safetensors  from another NAMM
  namm-mm evolve start.checkpoint=null start.bias=1 from zeros that keep everything

Options:
  --configs FOLDER   search a folder of your own configurations too
  --show             print the resolved configuration and its hash, and stop
  --cfg job          print the composed configuration, before it is checked, and stop
  --info defaults-tree   print the files that it is composed of, and stop
  --anyway           continue a run although settings were changed

A run may be killed at any moment: the same command continues it, and no evaluation is done twice.
Its folder is `folder`, or OUTPUT/NAME/TIME (output=runs): best.safetensors is the best NAMM by
validation, for `namm-mm transfer checkpoint=FOLDER/best.safetensors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from namm_mm.commands.compose import compose
from namm_mm.commands.inspecting import INSPECT_OPTIONS, inspected
from namm_mm.commands.running import print_settings
from namm_mm.console.progress import showing
from namm_mm.evolution.loop import run
from namm_mm.evolution.reading import from_mapping
from namm_mm.runs.folder import new_folder

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS = {"configs": True, "show": False, "anyway": False, **INSPECT_OPTIONS}


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    if inspected("evolve", call):
        return 0
    settings = from_mapping(compose("evolve", call.words, call.configs))
    if "show" in call.options:
        print_settings(settings)
        return 0
    folder = settings.folder or new_folder(settings.output / settings.name)
    console = Console(stderr=True)
    try:
        with showing(console) as progress:
            progress.say(f"evolution {settings.name}, in {folder}")
            outcome = run(settings, folder, progress=progress, anyway="anyway" in call.options)
    except KeyboardInterrupt:
        hint = f"To go on: the same command with folder={folder}"
        console.print(hint, highlight=False, markup=False, soft_wrap=True)
        raise
    out = Console(soft_wrap=True, highlight=False, markup=False)
    here = outcome.position
    out.print(
        f"{here.total} generations. Validation fitness: {here.start_fitness:.4f} at the start of "
        f"the stage ({here.start_kept:.1%} of the tokens kept), {here.best_fitness:.4f} at best "
        f"({here.best_kept:.1%} kept), after {here.best_generation} generations of it."
    )
    out.print(f"best:     {outcome.namm}")
    for name, place in outcome.places.items():
        out.print(f"{name + ':':<10}{place}")
    if not outcome.finished:
        out.print(f"To go on: the same command with folder={outcome.folder}")
    return 0
