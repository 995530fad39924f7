"""Settings on a command line, KEY=VALUE: how they are read, and which are refused at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from namm_mm.adapters import ADAPTERS
from namm_mm.commands.moved import moved
from namm_mm.errors import UsageError, message, nearest
from namm_mm.policies import POLICIES
from namm_mm.registry.registry import Registry
from namm_mm.tasks import TASKS

REGISTRIES: Mapping[str, Registry[Any]] = {"adapter": ADAPTERS, "task": TASKS, "policy": POLICIES}
"""Groups whose options are components: one that a package registers needs no file here."""

OF_HYDRA: Mapping[str, str] = {
    "hydra.run": "The run folder is set with `folder=FOLDER`, its parent with `output=FOLDER`.",
    "hydra.sweep": "`folder=FOLDER --multirun` sets the folder of a sweep; a run in it is named "
    "after its values.",
    "hydra.sweeper": "`--multirun KEY=A,B` runs every combination of values.",
    "hydra.launcher": "`execution=ray` runs samples in workers, here or on a cluster.",
    "hydra.searchpath": "`--configs FOLDER` searches a folder of your own configurations.",
    "hydra.job": "Runs stay in the working directory; `name=NAME` names the experiment, and "
    "`output=FOLDER` says where its folders go.",
    "hydra.mode": "`--multirun KEY=A,B` runs every combination of values.",
    "hydra.verbose": "`--debug` shows tracebacks.",
    "hydra.job_logging": "`--debug` shows tracebacks; a run keeps what it says in its folder.",
    "hydra.output_subdir": "The run folder holds config.yaml and run.json.",
}
"""Settings of Hydra itself, none of which has an effect here, and what takes their place."""

BRACKETS = ("[", "{", "'", '"', "$")
"""What begins a value that is no plain word: it is given to Hydra as it is."""

PLAIN = re.compile(r"[\w/\-+.$%*@?|:=,~ ]*|\w+\(.*\)", re.ASCII)
"""What Hydra's grammar takes without quotes, functions such as ``range(1,5)`` included."""

Groups = Mapping[str, Sequence[str]]
"""Each configuration group with its options."""


@dataclass(frozen=True)
class Override:
    """One word of a command line that sets something.

    Attributes
    ----------
    text
        The word as it was given.
    mark
        Hydra's mark before the key: ``+``, ``++``, ``~`` or nothing.
    key
        What is set, without the mark.
    value
        What it is set to; None after ``~`` where nothing is given.
    """

    text: str
    mark: str
    key: str
    value: str | None

    @property
    def group(self) -> str:
        """The key without the place after ``@``, where a group is put elsewhere."""
        return self.key.partition("@")[0]

    @property
    def top(self) -> str:
        """The first part of a dotted key: ``cells`` of ``cells.text.limit``."""
        return self.key.partition(".")[0]


def read_overrides(words: Iterable[str]) -> list[Override]:
    """Read the words of a command line.

    Raises
    ------
    UsageError
        A word sets nothing, sets Hydra itself, or sets a key for the second time.
    """
    found: dict[tuple[str, bool], Override] = {}
    for word in words:
        override = _read(word)
        earlier = found.setdefault((override.key, override.mark == "~"), override)
        if earlier is not override:
            raise UsageError(
                message(
                    f"{override.key!r} is set twice",
                    given=f"{earlier.text} {override.text}",
                    expected="each key once",
                )
            )
    return list(found.values())


def _quoted(override: Override) -> str:
    """Quote a value in which Hydra's grammar has no place for a sign, such as ``R&D/run``."""
    value = override.value
    if value is None or value.startswith(BRACKETS) or PLAIN.fullmatch(value):
        return override.text
    inside = value.replace("'", "\\'")
    return f"{override.mark}{override.key}='{inside}'"


def hydra_words(overrides: Iterable[Override], groups: Groups) -> list[str]:
    """Word overrides so that Hydra accepts keys that are not in the configuration yet.

    Unknown keys pass: the settings name all of them in one message, with the nearest known ones. An
    adapter, task or policy that is registered and has no file of configuration passes by its name.

    Raises
    ------
    UsageError
        A group has no such option.
    """
    words = []
    for override in overrides:
        group, value = override.group, override.value
        if group not in groups:
            words.append(_quoted(override) if override.mark else f"++{_quoted(override)}")
        elif (
            value is None
            or value == "null"
            or value.startswith(("[", "{"))
            or value in groups[group]
        ):
            words.append(override.text)
        elif value in REGISTRIES.get(group, ()):
            place = override.key.partition("@")[2] or group
            words += [] if override.mark else [f"~{group}"]
            words.append(f"++{place}.name={value}")
        elif value.startswith(("[", "{")):
            words.append(override.text)
        else:
            _refuse_option(group, value, groups)
    return words


def _refuse_option(group: str, value: str, groups: Groups) -> NoReturn:
    registered = REGISTRIES.get(group, ())
    if instead := moved(group, value):
        raise UsageError(
            message(
                f"this {group} has moved",
                given=value,
                expected="its new name",
                then=instead,
            )
        )
    raise UsageError(
        message(
            f"unknown {group}",
            given=value,
            expected=f"one of the files in configs/{group}"
            + (f", or a registered {group}" if registered else ""),
            valid={*groups[group], *registered},
            then="`namm-mm list` shows what is installed.",
        )
    )


def refuse_misspelled_groups(
    overrides: Iterable[Override], known: Iterable[str], groups: Groups
) -> None:
    """Refuse a key that is no key of the configuration and is nearest to the name of a group.

    Raises
    ------
    UsageError
        There is such a key, such as ``exprement=pocket``.
    """
    keys = {*known, *groups}
    for override in overrides:
        if override.top in keys or override.group in keys or "." in override.key:
            continue
        close = nearest(override.key, keys)
        if close in groups:
            raise UsageError(
                message("unknown key", given=override.key, expected="a known key", valid=keys)
            )


def _read(word: str) -> Override:
    key, equals, value = word.partition("=")
    bare = key.lstrip("+~")
    mark = key[: len(key) - len(bare)]
    if not bare or (not equals and mark != "~"):
        raise UsageError(
            message(
                "not a setting",
                given=word,
                expected="KEY=VALUE, such as experiment=pocket or cells.text.limit=4",
            )
        )
    override = Override(word, mark, bare, value if equals else None)
    if override.top == "hydra" or bare.startswith("hydra/"):
        raise UsageError(
            message(
                "settings of Hydra itself have no effect here",
                given=word,
                expected="a key of the configuration",
                then=OF_HYDRA.get(
                    ".".join(bare.replace("/", ".").split(".")[:2]),
                    "Hydra composes the configuration and does not run it.",
                ),
            )
        )
    return override
