"""Make a bundled or cached asset again, from nothing.

  namm-mm build                             what can be built
  namm-mm build smollm2                     convert the packaged SmolLM2 now instead of at first use
  namm-mm build pocket-video out=FOLDER     train the video model, into a folder of your own
  namm-mm build smollm2-video               teach SmolLM2 to see through DINOv2, both packaged
  namm-mm build pocket-rl asset=pocket_rl_hopper
  namm-mm build dt dataset=d4rl/hopper-medium-v2 out=FOLDER   a Decision Transformer, as published
  namm-mm build provisional                 the hand-written NAMM that evolutions start from
  namm-mm build warm-start out=FOLDER       fit a NAMM to an oracle by gradient, to evolve from
  namm-mm build refine out=FOLDER           go on from a NAMM by gradients of answers to text
  namm-mm build threshold namm=FILE part=0.5 out=FILE         keep that part of text by threshold

KEY=VALUE are the builder's own options; a wrong one is answered with the right ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from namm_mm.errors import UsageError, message
from namm_mm.registry.registry import Registry, build

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {}

BUILDERS: Registry[Callable[..., Path]] = Registry("builder", "namm_mm.builders", {})


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    out = Console(soft_wrap=True, highlight=False, markup=False)
    if not list(BUILDERS):
        raise UsageError(
            message(
                "no builders are installed",
                given=" ".join(call.words) or "nothing",
                expected="the builders of a clone: the wheel of namm-mm does not hold them",
                then="Clone the repository and run `pip install -e research` in it.",
            )
        )
    if not call.words:
        out.print("namm-mm build NAME, where NAME is one of: " + ", ".join(BUILDERS))
        return 0
    name, *rest = call.words
    options = dict(_option(word) for word in rest)
    known = inspect.signature(BUILDERS.get(name)).parameters
    if "say" in known:
        options["say"] = out.print
    for key, value in options.items():
        if key in known and "Path" in str(known[key].annotation):
            options[key] = Path(str(value)).expanduser()
    made = build(BUILDERS, name, options)
    out.print(f"made {made}")
    return 0


def _option(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(
            message("not an option of a builder", given=word, expected="KEY=VALUE, such as seed=1")
        )
    return key, yaml.safe_load(value)
