"""Make a bundled or cached asset again.

  namm-mm build                             list the builders
  namm-mm build smollm2                     convert the packaged SmolLM2 now instead of at first use
  namm-mm build pocket-video out=FOLDER     train the small video model, into your own folder
  namm-mm build smollm2-video               train the projector between DINOv2 and SmolLM2
  namm-mm build smollm2-speech out=FOLDER   train the projector between Whisper and SmolLM2
  namm-mm build pocket-rl asset=pocket_rl_hopper
  namm-mm build dt dataset=d4rl/hopper-medium-v2 out=FOLDER   a Decision Transformer, as published
  namm-mm build provisional                 the hand-written NAMM that evolutions start from
  namm-mm build warm-start out=FOLDER       fit a NAMM to an oracle by gradients, to evolve from
  namm-mm build refine out=FOLDER           refine a NAMM by gradients of the answers to text
  namm-mm build head-table policy=namm out=FILE               what each head keeps, for heads:FILE
  namm-mm build less model=NAME policy=h2o out=FILE           train the kernels of LESS
  namm-mm build trimkv out=FILE                                train the gates of TrimKV
  namm-mm build threshold namm=FILE fraction=0.5 out=FILE     set the threshold of a NAMM on text
  namm-mm build zoo                         train small language models that need their memory
  namm-mm build zoo-namm out=FOLDER         evolve a NAMM on the models of the zoo

KEY=VALUE are the options of the builder. The builders are in the folder research/ of a clone.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from rich.console import Console

from namm_mm.errors import UsageError, message
from namm_mm.registry.registry import Registry, build

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {}


class Builder(ABC):
    """Makes an asset. A subclass is a frozen dataclass whose fields are the options KEY=VALUE.

    Builders are registered in the entry-point group ``namm_mm.builders``.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    """Options of earlier versions, and their names now."""

    @abstractmethod
    def build(self, say: Callable[[str], None] = print) -> Path:
        """Make the asset and return its file or folder; `say` is told how it goes."""


BUILDERS: Registry[type[Builder]] = Registry("builder", "namm_mm.builders", {})


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
    builder = BUILDERS.get(name)
    for option in options.keys() & builder.renamed.keys():
        raise UsageError(
            message(
                f"renamed option of the builder {name!r}",
                given=option,
                expected=f"its name now, {builder.renamed[option]!r}",
            )
        )
    known = inspect.signature(builder).parameters
    for key, value in options.items():
        if key in known and "Path" in str(known[key].annotation):
            options[key] = Path(str(value)).expanduser()
    made: Builder = build(BUILDERS, name, options)
    out.print(f"made {made.build(out.print)}")
    return 0


def _option(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(
            message("not an option of a builder", given=word, expected="KEY=VALUE, such as seed=1")
        )
    if not value.strip():
        raise UsageError(
            message("an option without its value", given=word, expected=f"{key}=VALUE")
        )
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(
            message("a value that cannot be read", given=word, expected="a value as in YAML")
        ) from error
