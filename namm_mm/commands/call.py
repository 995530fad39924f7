"""What a verb was called with: words, and options that begin with two dashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from namm_mm.errors import UsageError, message

COMMON = ("debug", "help")
"""Options of every verb, which the command line takes for itself."""

SHORT: Mapping[str, str] = {"-m": "--multirun", "-c": "--cfg", "-i": "--info"}
"""Short options of Hydra's command line."""

COMPOSED = "`transfer`, `evaluate` and `evolve` have it: they compose a configuration."

HYDRA_OPTIONS: Mapping[str, str] = {
    "multirun": "`transfer` and `evaluate` sweep. For others: one command for each value.",
    "cfg": COMPOSED,
    "info": COMPOSED,
    "resolve": "`--cfg job` prints resolved values in any case.",
    "config-dir": "`--configs FOLDER` searches a folder of your own configurations.",
    "config-path": "`--configs FOLDER` searches a folder of your own configurations.",
    "config-name": "Choose a configuration with experiment=NAME.",
    "run": "A verb runs without it.",
    "package": "`--show` prints the whole configuration.",
}
"""Options of Hydra's own command line that the verbs do not have, and what to do instead."""

NEEDS: Mapping[str, str] = {"json": "plan", "gpu": "plan"}
"""Options that do nothing without another one."""


@dataclass(frozen=True)
class Call:
    """What a verb was called with.

    Attributes
    ----------
    words
        Arguments that are not options.
    options
        ``--name VALUE`` and ``--flag`` (value ``""``), without the dashes; of an option that is
        given again the last value.
    values
        All values of each option, in order.
    """

    words: tuple[str, ...]
    options: Mapping[str, str]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def configs(self) -> Path | None:
        """The folder of the user's own configurations; None where none is given."""
        folder = self.options.get("configs")
        return Path(folder).expanduser() if folder else None


def read_call(given: Sequence[str], known: Mapping[str, bool]) -> Call:
    """Split words from options.

    Parameters
    ----------
    given
        The arguments after the verb.
    known
        Maps the name of each option of the verb to whether it takes a value.

    Raises
    ------
    UsageError
        An option is unknown, lacks its value, has one that it does not take, or has no effect.
    """
    words: list[str] = []
    options: dict[str, str] = {}
    values: dict[str, tuple[str, ...]] = {}
    rest = iter(given)
    for word in rest:
        word = SHORT.get(word, word)
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if name not in known:
            _refuse_option(word, known)
        if known[name] and not equals:
            value = next(rest, "")
        if known[name] and not value:
            raise UsageError(message("incomplete option", given=word, expected="a value after it"))
        if equals and not known[name]:
            raise UsageError(
                message("this option takes no value", given=word, expected=f"--{name}")
            )
        options[name] = value
        values[name] = (*values.get(name, ()), value)
    for name, other in NEEDS.items():
        if name in options and other in known and other not in options:
            raise UsageError(
                message(
                    "this option has no effect here", given=f"--{name}", expected=f"--{other} too"
                )
            )
    return Call(tuple(words), options, values)


def _refuse_option(word: str, known: Mapping[str, bool]) -> NoReturn:
    name = word[2:].partition("=")[0]
    instead = HYDRA_OPTIONS.get(name, "")
    raise UsageError(
        message(
            "an option of Hydra that this verb does not have" if instead else "unknown option",
            given=word,
            expected="a known option, or KEY=VALUE" if known else "KEY=VALUE",
            valid=() if instead else [f"--{option}" for option in (*known, *COMMON)],
            then=instead,
        )
    )
