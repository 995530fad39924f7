"""Wrong words on the command line: each is answered by a message, never by a traceback."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from random import Random

from namm_mm.cli import main

from .base import Attempt, Setting
from .processes import ROOT

TRANSFER = "transfer --configs {configs} experiment=tiny"
EVALUATE = "evaluate adapter.model=text adapter.dtype=float32 policy=h2o budget=tokens:32 limit=1"
EVOLVE = "evolve --configs {configs} evolution=tiny"
BASES = (TRANSFER, EVALUATE, EVOLVE)
VERBS = ("transfer", "evaluate", "evolve", "report", "list", "build", "ask", "models", "doctor")
GROUPS = ("experiment", "adapter", "task", "policy", "evolution", "cell")
NUMBERS = ("limit", "interval", "seeds", "cells.text.interval", "cells.control.limit")
KEYS = ("limit", "interval", "policies", "budgets", "storage", "protocol", "wandb", "folder")
NONSENSE = (
    *("many", "-1", "0", "1.5", "[]", "{{}}", "nan", "inf", "1e999", "true", "''", "..."),
    *("[1,[2]]", "tokens:", "fraction:2", "pool:-1", "match:", "\u00e9\u00e9", "{{a:1}}"),
)


def misspelled(word: str, draw: Random) -> str:
    """Return the word with two letters exchanged, one doubled or one left out."""
    at = draw.randrange(1, len(word) - 1)
    return draw.choice(
        [
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1 :],
        ]
    )


def wrong_verb(draw: Random) -> str:
    """Return a verb that is none."""
    return misspelled(draw.choice(VERBS), draw) + "q"


def wrong_key(draw: Random) -> str:
    """Return a key that is none."""
    return f"{draw.choice(BASES)} {misspelled(draw.choice(KEYS), draw)}z=1"


def wrong_name(draw: Random) -> str:
    """Return a choice that is none of its group."""
    group = draw.choice(GROUPS)
    return f"{draw.choice(VERBS[:3])} {group}={draw.choice(['pokket', 'nmm', '', '../x', 'a b'])}"


def wrong_number(draw: Random) -> str:
    """Return a number that is none, or out of range."""
    bad = draw.choice(["many", "-1", "0", "1.5", "nan", "{{}}", "[a]", "''", "-inf"])
    return f"{draw.choice(BASES[:2])} {draw.choice(NUMBERS)}={bad}"


def wrong_budget(draw: Random) -> str:
    """Return a budget that is none."""
    bad = draw.choice(
        [
            *(
                "tokens:0",
                "tokens:-3",
                "tokens:x",
                "fraction:0",
                "fraction:1.01",
                "fraction:",
                "pool",
            ),
            *("match:nobody", "match_bytes:nobody", "bytes:9", "half", "-1", "0", "heads:nowhere"),
        ]
    )
    return draw.choice([f"{TRANSFER} budgets=['{bad}']", f"{EVALUATE} budget='{bad}'"])


def wrong_model(draw: Random) -> str:
    """Return a model that is not there, or is something else."""
    bad = draw.choice(["nowhere", "clips", "namm.safetensors", "video", "control", "a/b/c", "''"])
    return draw.choice(
        [
            f"{EVALUATE} adapter.model={bad}",
            f"{TRANSFER} cells.text.adapter.model={bad}",
            f"ask {bad} why --file clips",
        ]
    )


def wrong_file(draw: Random) -> str:
    """Return a file that is not there, or of another kind."""
    bad = draw.choice(["nowhere", "text/config.json", "control", "/dev/null"])
    return draw.choice(
        [
            f"report {bad}",
            f"{TRANSFER} checkpoint={bad}",
            f"{TRANSFER} cells.video.task.source={bad}",
            f"{EVALUATE} task=infinitebench task.source={bad}",
            f"{EVOLVE} start.checkpoint={bad}",
            f"transfer --configs {bad} experiment=tiny",
        ]
    )


def wrong_pair(draw: Random) -> str:
    """Return parts that do not go together."""
    return draw.choice(
        [
            "evaluate adapter=text task=offline_rl",
            "evaluate adapter=text task=video_qa",
            "evaluate adapter=decision_transformer task=long_text",
            "evaluate adapter=llava_video task=long_text adapter.model=video",
            f"{TRANSFER} shard={draw.choice(['0/2', '3/2', '1', 'x/y', '1/0'])}",
            f"{TRANSFER} execution={{{{name:{draw.choice(['dask', 'ray', ''])},workers:-1}}}}",
            f"{TRANSFER} storage={draw.choice(['per-head', 'heads', '7'])}",
            f"{TRANSFER} cells=[{draw.choice(['txt', 'vidoe', '', '7'])}x]",
            f"{TRANSFER} policies=[{draw.choice(['h20', 'nam', '{{}}', '{{name:7}}', '7'])}]",
        ]
    )


def wrong_option(draw: Random) -> str:
    """Return an option that is none, or lacks its value."""
    bad = draw.choice(["plna", "shwo", "cfgg", "verbose", "x", "-", "gpus"])
    return f"{draw.choice(VERBS)} --{bad}"


def nonsense(draw: Random) -> str:
    """Return a value that no key takes."""
    key = draw.choice(["policies", "budgets", "storage", "protocol", "wandb", "execution", "seeds"])
    bad = draw.choice(
        [word for word in NONSENSE if not (key == "seeds" and word in ("0", "1e999"))]
    )
    return f"{TRANSFER} {key}={bad}"


KINDS: tuple[Callable[[Random], str], ...] = (
    *(wrong_verb, wrong_key, wrong_name, wrong_number, wrong_budget, wrong_model, wrong_file),
    *(wrong_pair, wrong_option, nonsense),
)


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield one command after another, each kind in turn."""
    configs = os.path.relpath(ROOT / "tests" / "end_to_end" / "configs", setting.tiny)
    for number in range(setting.count):
        draw = setting.draw(number)
        words = KINDS[number % len(KINDS)](draw).format(configs=configs)
        with chdir(setting.tiny):
            yield Attempt(f"namm-mm {words}", judge(words.split(" "), setting))


def judge(words: list[str], setting: Setting) -> str:
    """Return what is wrong with how a wrong command is answered; empty if nothing is."""
    out, err = io.StringIO(), io.StringIO()
    more = [f"output={setting.folder}"] if words[0] in VERBS[:3] else []
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([*words, *more])
        except BaseException as error:  # what a user would see as a traceback
            return f"{type(error).__name__}: {error}"
    said = err.getvalue()
    if code not in (1, 2):
        return f"exit code {code}"
    if "Traceback" in said or "internal error" in said:
        return said.strip()[-200:]
    return "" if said.strip() else "no message"
