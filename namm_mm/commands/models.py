"""Fetch a model once, so that `adapter.model=NAME` finds it.

namm-mm models                    what can be fetched, with licence, origin and size
namm-mm models get NAME           show licence and origin, ask, download, check, convert, cache
namm-mm models get NAME --accept  do not ask: you have read the licence

A download that is stopped goes on with the pieces that are there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

from namm_mm.errors import UsageError, message
from namm_mm.models import fetched

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {"accept": False}


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    out = Console(soft_wrap=True, highlight=False, markup=False)
    if not call.words:
        for model in fetched.MODELS.values():
            state = "cached" if fetched.cached(model) else model.command
            out.print(f"{model.notice}\nstate: {state}\n")
        return 0
    verb, *names = call.words
    if verb != "get" or len(names) != 1:
        raise UsageError(
            message(
                "wrong words after `namm-mm models`",
                given=" ".join(call.words),
                expected="get NAME",
                valid=[model.command for model in fetched.MODELS.values()],
            )
        )
    model = fetched.model_named(names[0])
    if not fetched.cached(model):
        out.print(model.notice)
        if "accept" not in call.options and not _agreed():
            raise UsageError(
                "nothing was downloaded. "
                f"`{model.command} --accept` accepts the licence and goes on."
            )
    out.print(f"{model.name} is in {fetched.fetch(model, out.print)}")
    out.print(model.use or f"Use it with adapter.model={model.name}")
    return 0


def _agreed() -> bool:
    """Ask on a terminal; elsewhere nobody can answer."""
    if not sys.stdin.isatty():
        return False
    return input("Download it under this licence? [y/N] ").strip().lower() in ("y", "yes")
