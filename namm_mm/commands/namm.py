"""Say what a NAMM is: its training, features, threshold, storage, interval, scores and licence.

  namm-mm namm list                the bundled NAMMs, a line each
  namm-mm namm show general        one of them, from its card
  namm-mm namm show FOLDER         one that `save_pretrained` or `namm-mm evolve` wrote
  namm-mm namm show FILE           a .safetensors file with its card, or an official .pt
  namm-mm namm show OWNER/NAME     one on the Hugging Face hub

Options:
  --json             what is shown, as JSON
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from namm_mm.errors import UsageError, message
from namm_mm.models.listing import namm_cards
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import DEFAULT
from namm_mm.namm.facts import facts

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {"json": False}
WORDS = {"list": 0, "show": 1}
"""What can follow the verb, and how many words follow that."""


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    what, *names = call.words or ("list",)
    if what not in WORDS:
        raise UsageError(
            message(
                "unknown word after `namm-mm namm`",
                given=what,
                expected="list, or show NAME",
                valid=WORDS,
            )
        )
    if len(names) != WORDS[what]:
        raise UsageError(
            message(
                f"wrong words after `namm-mm namm {what}`",
                given=" ".join(names) or "nothing",
                expected="one name, folder, file or OWNER/NAME" if WORDS[what] else "no more words",
                then="`namm-mm namm list` shows the bundled ones.",
            )
        )
    found = _bundled() if what == "list" else dict(facts(Namm.from_pretrained(names[0])))
    if "json" in call.options:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return 0
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=26)
    table.add_column(overflow="fold")
    for name, value in found.items():
        table.add_row(Text(name, style="bold"), Text(value))
    out = Console()
    out.print(table)
    then = f"namm show {DEFAULT}" if what == "list" else f"transfer checkpoint={names[0]}"
    out.print(Text(f"next: namm-mm {then}", style="dim"), soft_wrap=True)
    return 0


def _bundled() -> dict[str, str]:
    return {
        name: "its card cannot be read: `namm-mm doctor`"
        if card is None
        else f"{card.get('about', '')} (interval {card.get('interval')}, "
        f"storage {card.get('storage', 'not set')})"
        for name, card in namm_cards()
    }
