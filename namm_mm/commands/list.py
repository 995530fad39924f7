"""Show the names that a configuration can use, and where each comes from.

  namm-mm list
  namm-mm list adapter policy      some kinds only: adapter, task, policy, NAMM, model,
                                   experiment, evolution

An adapter and a task run together if both answer questions or both act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from namm_mm.commands.entries import entries
from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {}
KINDS = ("adapter", "task", "policy", "NAMM", "model", "experiment", "evolution")
PLURALS = {"policy": "policies"}
WIDTH = 22


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    for word in call.words:
        if word not in KINDS:
            raise UsageError(
                message("unknown kind", given=word, expected="a kind of thing to list", valid=KINDS)
            )
    console = Console()
    previous = ""
    for entry in entries():
        if call.words and entry.kind not in call.words:
            continue
        if entry.kind != previous:
            console.print(Text(PLURALS.get(entry.kind, f"{entry.kind}s"), style="bold"))
            previous = entry.kind
        first = entry.name if len(entry.name) <= WIDTH else f"{entry.name}\n  {'':<{WIDTH}}"
        line = Text(f"  {first:<{WIDTH}} {entry.about}")
        line.append(f" [{entry.status}]", style="dim")
        console.print(line, soft_wrap=True, highlight=False)
        if entry.cells:
            cells = f"  {'':<{WIDTH}} cells: {', '.join(entry.cells)}"
            console.print(Text(cells, style="dim"), soft_wrap=True)
        if entry.then:
            console.print(Text(f"  {'':<{WIDTH}} next: {entry.then}", style="dim"), soft_wrap=True)
    return 0
