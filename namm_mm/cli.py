"""The command line: verbs, Hydra at the edge, and errors as one clear message.

Exit codes: 0 done, 1 a run that failed, 2 a request that cannot be, 130 stopped by the user,
143 or 129 stopped by SIGTERM or SIGHUP.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.resources import files

from namm_mm import __version__
from namm_mm.commands.call import read_call
from namm_mm.commands.verbs import VERBS
from namm_mm.errors import NammError, UsageError, message
from namm_mm.execution.signals import Stopped, stoppable

__all__ = ["VERBS", "main"]

USAGE = f"""\
namm-mm {__version__}: one attention memory, made on text, plugged into other modalities.

Start here
  namm-mm transfer                        run one NAMM and other policies on text, video and control
  namm-mm ask MODEL QUESTION --file FILE  ask a model about a file under several policies
  namm-mm doctor                          check the installation; say what is missing
  namm-mm list                            show adapters, tasks, policies, NAMMs, models, experiments

Measure
  namm-mm transfer [experiment=pocket] [cells=[NAME,...]] [KEY=VALUE ...]
  namm-mm evaluate [adapter=NAME] [task=NAME] [policy=NAME] [KEY=VALUE ...]   one policy, one task
  namm-mm report RUN ...                  make a report from the records of runs

Make
  namm-mm evolve [evolution=smollm2_pocket] [folder=FOLDER] [KEY=VALUE ...]   evolve a NAMM on text
  namm-mm new adapter NAME                write a package with an adapter and a task of your own
  namm-mm build NAME [KEY=VALUE ...]      make a bundled asset again, in a clone

Look up
  namm-mm namm list | show NAME           say what a NAMM is, and how it was made
  namm-mm models [get NAME]               show or fetch models that are in no package
  namm-mm completion bash | zsh | fish    print a script for completion in a shell

`namm-mm VERB --help` says more. --debug (or NAMM_MM_DEBUG=1) shows tracebacks.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("NAMM_MM_DEBUG", "") not in ("", "0")
    given = [word for word in given if word != "--debug"]
    # Before torch loads: threads cost more than they give on small and busy machines.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        with stoppable():
            return _dispatch(given)
    except NammError as error:
        caught: BaseException = error
        code, text = error.exit_code, str(error)
    except Stopped as error:
        caught, code, text = error, 128 + error.number, f"{error}."
    except KeyboardInterrupt as error:
        caught, code, text = error, 130, "stopped."
    except Exception as error:
        caught, code = error, 1
        text = (
            f"internal error, {type(error).__name__}: {error}\n"
            "This is a fault of namm-mm: run it again with --debug and report what it shows."
        )
    if debug:
        traceback.print_exception(caught)
    print(f"namm-mm: {text}", file=sys.stderr)
    return code


def _dispatch(given: list[str]) -> int:
    verb, *rest = given or ["help"]
    if verb == "help" and rest:  # namm-mm help VERB
        verb, rest = rest[0], ["--help"]
    if verb in ("help", "-h", "--help"):
        print(USAGE, end="")
        return 0
    if verb in ("version", "--version"):
        if rest:
            raise UsageError(
                message("too many words", given=" ".join(rest), expected="no more words")
            )
        print(f"namm-mm {__version__}")
        return 0
    if verb not in VERBS:
        raise UsageError(
            message(
                "unknown verb",
                given=verb,
                expected="a verb",
                valid=VERBS,
                then="`namm-mm help` explains them.",
            )
        )
    if verb == "completion" and rest[:1] == ["words"]:  # what follows is another command line
        return int(importlib.import_module("namm_mm.commands.completion").complete(rest[1:]))
    if {"-h", "--help"} & set(rest):
        print(f"namm-mm {verb}: {VERBS[verb]}\n\n{_help(verb)}")
        return 0
    command = importlib.import_module(f"namm_mm.commands.{verb}")
    return int(command.main(read_call(rest, command.OPTIONS)))


def _help(verb: str) -> str:
    """The docstring of a verb's module, which is read and not imported: that takes seconds."""
    source = files("namm_mm.commands").joinpath(f"{verb}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""
