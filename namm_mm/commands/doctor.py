"""Check the installation: libraries, video decoders, MuJoCo, W&B, devices, models.

Everything that a run needs is tried, not only imported. What is missing comes with the command that
gets it. Exit code 1 if something needed is broken; optional things may be missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from namm_mm.commands.checks import checks
from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {}
STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    if call.words:
        raise UsageError(message("too many words", given=call.words[0], expected="no argument"))
    console = Console()
    found = []
    for check in checks():
        line = Text.assemble((f"{check.state:8}", STYLES[check.state]), f"{check.name}: ")
        line.append(check.found)
        console.print(line, soft_wrap=True, highlight=False)
        if check.then:
            console.print(Text(f"        next: {check.then}", style="dim"), soft_wrap=True)
        found.append(check.state)
    broken, missing = found.count("broken"), found.count("missing")
    verdict = f"{broken} broken" if broken else "ready to run"
    console.print(f"{verdict}, {missing} optional missing", highlight=False)
    return 1 if broken else 0
