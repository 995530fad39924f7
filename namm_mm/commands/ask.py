"""Ask a model one question about a file, and see the answers of several policies side by side.

  namm-mm ask MODEL "Who wrote the letter?" --file letter.txt
  namm-mm ask MODEL "What is in the box?" --file clip.mp4 --policy namm --compare full,h2o
  namm-mm ask MODEL "Which total is higher?" --file page.png --file photo.jpg --show
  namm-mm ask smollm2-135m-instruct "What is the pass key?" --file notes.txt --budget 0.25 --show

Options:
  --file FILE        a text (.txt, .md, ...), picture (.png, .jpg, ...), video (.mp4, .mkv, ...) or
                     sound (.wav, .flac, ...); several pictures or sounds by --file again
  --policy NAME      decides which tokens stay; probed by default: the NAMM, with measured heads
  --budget BUDGET    0.25, tokens:512, threshold ...; the policy's own by default
  --compare NAMES    other policies with as many tokens, or full; full,h2o by default
  --tokens N         longest answer in tokens; 64 by default
  --interval N       tokens between two evictions; the policy's own by default
  --show             also show what each policy kept: text in shades; of other files a page, too
  --output FILE      write that page to FILE; namm-mm-ask.html by default
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.ask_files import opened
from namm_mm.commands.ask_page import (
    LARGER,
    PAGE,
    bars,
    coloured,
    is_text,
    larger_than_full,
    write_page,
)
from namm_mm.errors import UsageError, message
from namm_mm.experiment.asking import Asked, ask
from namm_mm.experiment.check_policies import content_problem
from namm_mm.policies import Policy, create
from namm_mm.policies.preferences import interval_for, mismatch, storage_for
from namm_mm.results import words

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter
    from namm_mm.commands.call import Call

OPTIONS: dict[str, bool] = {
    "file": True,
    "policy": True,
    "budget": True,
    "compare": True,
    "tokens": True,
    "interval": True,
    "show": False,
    "output": True,
}


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    if len(call.words) != 2:
        raise UsageError(
            message(
                "wrong words after `namm-mm ask`",
                given=" ".join(call.words),
                expected='a model and a question: namm-mm ask MODEL "QUESTION" --file FILE',
            )
        )
    model, question = call.words
    if not question.strip():
        raise UsageError(message("an empty question", given=question, expected="some words"))
    page = Path(call.options.get("output", PAGE)).expanduser()
    if page.is_dir():
        raise UsageError(
            message("--output is a folder", given=str(page), expected="the name of a page, x.html")
        )
    new_tokens = _number(call, "tokens") if "tokens" in call.options else 64
    adapter, sample = opened(model, question, call.values.get("file", ()), new_tokens)
    policy = create(call.options.get("policy", "probed"), **_budget(call))
    compare = [name for name in call.options.get("compare", "full,h2o").split(",") if name]
    for chosen in (policy, *map(create, compare)):  # told before a model loads
        _check(chosen, adapter)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    adapter.load()
    if isinstance(adapter, TextAdapter):
        adapter.chat = bool(adapter.tokenizer.chat_template)
    interval = _number(call, "interval") if "interval" in call.options else None
    closely = bool({"show", "output"} & call.options.keys())
    found = ask(adapter, sample, policy, compare, interval, closely=closely)
    out = Console()
    out.print(answers(found))
    if larger_than_full(found):
        out.print(f"over full: {LARGER}.")
    if unlike := mismatch(policy, interval_for(policy, interval), storage_for(policy)):
        out.print(f"Note: {unlike}")
    if not found[0].memory.updates:
        out.print(
            f"Nothing was evicted: {found[0].memory.seen} tokens are fewer than one interval. "
            "Take a smaller one with --interval."
        )
    if "show" in call.options:
        for asked in found:
            out.print(coloured(asked) if is_text(found) else bars(asked))
    if "output" in call.options or ("show" in call.options and not is_text(found)):
        write_page(found, sample, page)
        out.print(f"page: {page}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _check(policy: Policy, adapter: AnsweringAdapter) -> None:
    if policy.reencodes:
        raise UsageError(
            message(
                f"{policy.name!r} keeps no cache",
                given=policy.name,
                expected="a policy that evicts; this one encodes the last steps of an episode anew",
                then="`namm-mm list policy` shows the others.",
            )
        )
    if unread := content_problem(policy, adapter):
        raise UsageError(unread)


def _budget(call: Call) -> dict[str, str]:
    return {"budget": call.options["budget"]} if "budget" in call.options else {}


def _number(call: Call, option: str) -> int:
    given = call.options[option]
    if not given.isdigit() or int(given) < 1:
        raise UsageError(message(f"wrong --{option}", given=given, expected="1 or more"))
    return int(given)


def answers(found: list[Asked]) -> Table:
    """A table with one row for each policy; the answers get the room that numbers leave."""
    table = Table()
    table.add_column("policy", no_wrap=True)
    table.add_column("answer")
    for name in ("tokens kept", "cache", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    larger = larger_than_full(found)
    for asked in found:
        memory = asked.memory
        table.add_row(
            asked.policy + ("" if asked.budget == asked.policy else f"\n{asked.budget}"),
            asked.text or "(nothing)",
            f"{words.tokens(memory.tokens_final)} of {memory.seen}\n"
            f"{words.percent(memory.kept_fraction)}",
            words.size(memory.bytes_final) + ("\nover full" if asked in larger else ""),
            words.duration(asked.seconds),
        )
    return table
