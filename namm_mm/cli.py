"""The command line: verbs, Hydra at the edge, and errors as one clear message.

Exit codes: 0 done, 1 a run that failed, 2 a request that cannot be, 130 stopped by the user.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from namm_mm import __version__
from namm_mm.errors import NammError, UsageError, message
from namm_mm.listing import named_files

CONFIGS = "namm_mm.configs"

VERBS = {
    "transfer": "run one NAMM and its baselines on every modality of an experiment",
    "evolve": "evolve a NAMM on text, in stages; the same command goes on with a stopped run",
    "evaluate": "run one adapter on one task under one policy",
    "report": "make a report from the records of runs",
    "build": "make a bundled asset again, from nothing",
    "list": "show adapters, tasks, policies, NAMMs, models, experiments and evolutions",
    "doctor": "check the installation and say what is missing",
}

USAGE = f"""\
namm-mm {__version__}: one attention memory, evolved on text, plugged into other modalities.

  namm-mm transfer  [experiment=pocket] [KEY=VALUE ...]
  namm-mm evolve    [evolution=smollm2_pocket] [folder=FOLDER] [KEY=VALUE ...]
  namm-mm evaluate  [adapter=NAME] [task=NAME] [policy=NAME] [KEY=VALUE ...]
  namm-mm report    RUN ...
  namm-mm build     NAME [KEY=VALUE ...]
  namm-mm list
  namm-mm doctor

`namm-mm VERB --help` says more. --debug (or NAMM_MM_DEBUG=1) shows tracebacks.
"""


@dataclass(frozen=True)
class Call:
    """What a verb was called with.

    Attributes
    ----------
    words
        Arguments that are neither flags nor options.
    options
        ``--name VALUE`` and ``--flag`` (value ``""``), without the dashes.
    """

    words: tuple[str, ...]
    options: Mapping[str, str]

    def compose(self, name: str) -> dict[str, Any]:
        """Compose the configuration `name` with the words as overrides."""
        folder = self.options.get("configs")
        return compose(name, self.words, Path(folder) if folder else None)


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
        return _dispatch(given)
    except NammError as error:
        caught: BaseException = error
        code, text = error.exit_code, str(error)
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
    if verb in ("help", "-h", "--help"):
        print(USAGE, end="")
        return 0
    if verb in ("version", "--version"):
        print(f"namm-mm {__version__}")
        return 0
    if verb not in VERBS:
        raise UsageError(
            message(
                "unknown verb",
                given=verb,
                expected="something to do",
                valid=VERBS,
                then="`namm-mm help` explains them.",
            )
        )
    command = importlib.import_module(f"namm_mm.commands.{verb}")
    if {"-h", "--help"} & set(rest):
        print(f"namm-mm {verb}: {VERBS[verb]}\n\n{str(command.__doc__).strip()}")
        return 0
    return int(command.main(_parse(rest, command.OPTIONS)))


def _parse(given: Sequence[str], known: Mapping[str, bool]) -> Call:
    """Split words from options; `known` maps an option's name to whether it takes a value."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(given)
    for word in rest:
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if name not in known:
            raise UsageError(
                message(
                    "unknown option",
                    given=word,
                    expected="a known option, or KEY=VALUE" if known else "KEY=VALUE",
                    valid=[f"--{option}" for option in (*known, "debug", "help")],
                )
            )
        if known[name] and not equals:
            value = next(rest, "")
        if known[name] and not value:
            raise UsageError(message("incomplete option", given=word, expected="a value after it"))
        options[name] = value
    return Call(tuple(words), options)


def compose(name: str, overrides: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Compose a primary configuration and overrides into a plain mapping.

    Parameters
    ----------
    name
        ``transfer``, ``evolve`` or ``evaluate``.
    overrides
        Hydra's grammar: ``group=option`` and ``key.of.a.value=value``. Unknown keys pass, so that
        the settings can name all of them at once, with the nearest right one.
    folder
        A user's own configurations, laid out like ours and searched too.

    Raises
    ------
    UsageError
        What cannot be read as an override, or an option that a group does not have.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if folder is not None and not folder.is_dir():
        raise UsageError(
            message(
                "no such folder of configurations",
                given=str(folder),
                expected="a folder laid out like configs/: experiment/NAME.yaml and so on",
            )
        )
    words = [_override(word, groups(folder)) for word in overrides]
    if folder is not None:
        words.append(f"hydra.searchpath=[file://{folder.resolve()}]")
    try:
        with initialize_config_module(CONFIGS, version_base="1.3"):
            config = hydra_compose(name, overrides=words)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        if missing := re.search(r"delete from config\. '(.+?)' does not exist", str(error)):
            others = [word for word in overrides if not word.startswith("~")]
            _refuse_to_delete(missing[1], compose(name, others, folder))
        _refuse(error, name)
    return _tracker({str(key): value for key, value in dict(plain).items()})  # type: ignore[arg-type]


def _tracker(config: dict[str, Any]) -> dict[str, Any]:
    """Take ``tracker.wandb.mode``, the long form of the key ``wandb``."""
    given = config.pop("tracker", None)
    if given is None:
        return config
    wandb = given.get("wandb") if isinstance(given, Mapping) and len(given) == 1 else None
    if not isinstance(wandb, Mapping) or list(wandb) != ["mode"]:
        raise UsageError(
            message(
                "unknown settings of the tracker",
                given=given,
                expected="tracker.wandb.mode=MODE, or wandb=MODE for short",
                valid=("offline", "online", "disabled"),
            )
        )
    return {**config, "wandb": wandb["mode"]}


def _refuse_to_delete(key: str, config: Any) -> NoReturn:
    above, _, given = key.rpartition(".")
    for part in above.split(".") if above else ():
        config = config.get(part) if isinstance(config, Mapping) else None
    raise UsageError(
        message(
            f"nothing to leave out of {above or 'the configuration'}",
            given=given,
            expected="one of its keys that is not empty",
            valid=[k for k, v in config.items() if v is not None]
            if isinstance(config, Mapping)
            else (),
        )
    )


def _refuse(error: Exception, name: str) -> NoReturn:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2]).partition(" See https://")[0]
    group = re.search(r"Could not override '(.+?)'", said)
    if group:
        said = f"it has no group {group[1]!r} to choose from."
    raise UsageError(
        f"the configuration of `namm-mm {name}` cannot be composed: {said.rstrip('.')}. "
        f"`namm-mm {name} --help` shows what it takes."
    ) from error


def groups(folder: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Map each configuration group to its options, those of a user's folder included."""
    found: dict[str, set[str]] = {}
    for group, option in _options(folder):
        found.setdefault(group, set()).add(option)
    return {group: tuple(sorted(options)) for group, options in sorted(found.items())}


def _options(folder: Path | None) -> Iterator[tuple[str, str]]:
    for root in (files(CONFIGS), folder):
        for group in root.iterdir() if root is not None else ():
            if group.is_dir():
                for name, _ in named_files(group):
                    yield group.name, name


def _override(word: str, known: Mapping[str, tuple[str, ...]]) -> str:
    """Check one override and say it so that Hydra accepts keys that are not there yet."""
    key, equals, value = word.partition("=")
    bare = key.lstrip("+~")
    if not bare or (not equals and not key.startswith("~")):
        raise UsageError(
            message(
                "not a setting",
                given=word,
                expected="KEY=VALUE, such as experiment=pocket or cells.text.limit=4",
            )
        )
    group = bare.partition("@")[0]
    if group not in known:
        return word if key != bare else f"++{word}"
    if equals and not value.startswith(("[", "{")) and value not in known[group]:
        raise UsageError(
            message(
                f"unknown {group}",
                given=value,
                expected=f"one of the files in configs/{group}",
                valid=known[group],
                then="`namm-mm list` shows what is installed.",
            )
        )
    return word
