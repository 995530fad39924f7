"""Print a script that completes verbs, options, groups and their names in a shell.

  bash:  echo 'eval "$(namm-mm completion bash)"' >> ~/.bashrc
  zsh:   echo 'eval "$(namm-mm completion zsh)"' >> ~/.zshrc        after compinit
  fish:  namm-mm completion fish > ~/.config/fish/completions/namm-mm.fish

  namm-mm completion words WORD ...    what can stand in the place of the last word, a line each

The scripts ask `namm-mm completion words`, so that they know your own packages and configurations.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import TYPE_CHECKING

from namm_mm.commands.completing import candidates
from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {}
SHELLS = ("bash", "zsh", "fish")


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    if len(call.words) != 1 or call.words[0] not in SHELLS:
        raise UsageError(
            message(
                "unknown shell",
                given=" ".join(call.words) or "nothing",
                expected="one shell",
                valid=SHELLS,
                then="`namm-mm completion --help` says where its script goes.",
            )
        )
    script = files("namm_mm.commands") / f"completion.{call.words[0]}"
    sys.stdout.write(script.read_text(encoding="utf-8"))
    return 0


def complete(line: list[str]) -> int:
    """Print the candidates for the last word of a line, whatever its words are."""
    sys.stdout.write("".join(f"{word}\n" for word in candidates(line)))
    return 0
