"""Ask a model one question about a file, and see the answers of several policies side by side.

  namm-mm ask MODEL "Who wrote the letter?" --file letter.txt
  namm-mm ask MODEL "What is in the box?" --file clip.mp4 --policy namm --compare full,h2o
  namm-mm ask smollm2-135m-instruct "What is the pass key?" --file notes.txt --budget 0.25 --show

Options:
  --file FILE        a text (.txt, .md, ...), video (.mp4, .mkv, ...) or sound (.wav, .flac, ...)
  --policy NAME      decides which tokens stay; namm by default
  --budget BUDGET    0.25, tokens:512, threshold ...; the policy's own by default
  --compare NAMES    other policies with as many tokens, or full; full,h2o by default
  --tokens N         longest answer in tokens; 64 by default
  --interval N       tokens between two evictions; the policy's own by default
  --show             also show what each policy kept: text in shades; of other files a page, too
  --output FILE      write that page to FILE; namm-mm-ask.html by default
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
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
from namm_mm.records import Sample
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
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic")


@dataclass(frozen=True)
class FileKind:
    """A kind of file that is asked about.

    Attributes
    ----------
    suffixes
        Of its files, in small letters.
    adapter
        Serves it.
    placed
        Returns the field of a sample that holds the file.
    """

    suffixes: tuple[str, ...]
    adapter: Callable[..., AnsweringAdapter]
    placed: Callable[[Path], dict[str, Any]]


KINDS = (
    FileKind(
        (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"),
        LlavaVideoAdapter,
        lambda file: {"video": file},
    ),
    FileKind(
        (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".m4a", ".aac"),
        partial(SpeechAdapter, long_sounds="windows"),
        lambda file: {"sounds": (file,)},
    ),
)
"""Kinds of files by their suffixes; all others are texts."""


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
    adapter, sample = _opened(model, question, call)
    policy = create(call.options.get("policy", "namm"), **_budget(call))
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


def _opened(model: str, question: str, call: Call) -> tuple[AnsweringAdapter, Sample]:
    """The adapter for the kind of the file, not loaded yet, and the question as a sample."""
    new_tokens = _number(call, "tokens") if "tokens" in call.options else 64
    name = call.options.get("file", "")
    if not name:
        adapter = TextAdapter(model, answer_by="generate", max_new_tokens=new_tokens)
        return adapter, Sample("ask", "ask", question=question)
    file = Path(name).expanduser()
    if not file.is_file():
        raise UsageError(message("no such file", given=name, expected="a text, video or sound"))
    suffix = file.suffix.lower()
    if suffix in IMAGES:
        _refuse(file)
    for kind in KINDS:
        if suffix in kind.suffixes:
            made = kind.adapter(model=model, answer_by="generate", max_new_tokens=new_tokens)
            return made, Sample("ask", "ask", question=question, **kind.placed(file))
    text = TextAdapter(model, answer_by="generate", max_new_tokens=new_tokens)
    return text, Sample("ask", "ask", context=_read(file), question=question)


def _refuse(file: Path) -> NoReturn:
    """Say which models could answer about an image, and what can be asked instead."""
    other = shlex.quote(str(file.with_suffix(".mp4")))
    raise UsageError(
        message(
            "no adapter answers questions about image files yet",
            given=file.name,
            expected="a text, video or sound; models that could are LLaVA-OneVision and LLaVA-NeXT",
            then="As a video of one frame it can be asked about: "
            f"`ffmpeg -i {shlex.quote(str(file))} -vf 'pad=ceil(iw/2)*2:ceil(ih/2)*2' -pix_fmt "
            f"yuv420p {other}`, then --file {other}. docs/how-to/add-an-adapter.md brings an "
            "adapter.",
        )
    )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            message(
                f"the file is no text in UTF-8 (byte {error.start})",
                given=file.name,
                expected="UTF-8",
                then=f"Convert it: iconv -f latin1 -t utf-8 {file.name} > new.txt",
            )
        ) from error


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
