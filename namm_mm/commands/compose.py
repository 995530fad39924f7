"""What a verb was called with, and the configuration that Hydra composes from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NoReturn

from namm_mm.errors import UsageError, message

CONFIGS = "namm_mm.configs"


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


def named_files(group: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield name and file of each option of a configuration group: ``pocket``, ``scale/text``."""
    for file in sorted(group.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            yield prefix + file.name.removesuffix(".yaml"), file
        elif file.is_dir() and not file.name.startswith((".", "_")):
            yield from named_files(file, f"{prefix}{file.name}/")
