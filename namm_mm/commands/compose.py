"""The configuration that Hydra composes from the words of a command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import yaml

from namm_mm.commands import cells, shorthand, sweeps
from namm_mm.commands.named_files import named_files
from namm_mm.commands.overrides import (
    Override,
    hydra_words,
    read_overrides,
    refuse_misspelled_groups,
)
from namm_mm.errors import UsageError, message

CONFIGS = "namm_mm.configs"

OF_FILES = (yaml.YAMLError, ValueError, TypeError, AttributeError)
"""What Hydra lets through where a file or a value is not what it expects."""

TAKES: Mapping[str, tuple[str, ...]] = {
    "transfer": ("experiment", "execution", *cells.PARTS),
    "evaluate": ("adapter", "task", "policy", "execution"),
    "evolve": ("evolution", "execution"),
}
"""The configuration groups that a verb chooses from."""


def compose(name: str, words: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Compose a primary configuration and overrides into a plain mapping.

    Parameters
    ----------
    name
        ``transfer``, ``evolve`` or ``evaluate``.
    words
        Hydra's grammar: ``group=option`` and ``key.of.a.value=value``. Unknown keys pass, so that
        the settings can name all of them at once, with the nearest known ones. ``transfer`` also
        takes ``cells=[NAME,...]`` and ``adapter=NAME task=NAME``, and what it sets for all cells
        reaches all of them (:mod:`namm_mm.commands.cells`).
    folder
        A user's own configurations, laid out like ours and searched too.

    Raises
    ------
    UsageError
        What cannot be read as an override, an option that a group does not have, or a setting that
        has no effect.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(
            message(
                "no such folder of configurations",
                given=str(folder),
                expected="a folder laid out like configs/: experiment/NAME.yaml and so on",
            )
        )
    given = read_overrides(words)
    sweeps.refuse_several(given)
    overrides = shorthand.in_full(name, given)
    _refuse_other_groups(name, overrides, folder)
    if name != "transfer":
        return _composed(name, overrides, folder)
    overrides, chosen = cells.without_choice(cells.of_one_cell(overrides))
    config = before = _composed(name, overrides, folder)
    if any(map(cells.policies_of, overrides)):
        others = [o for o in overrides if not cells.policies_of(o)]
        before = _composed(name, others, folder)
    if chosen is not None:
        config = cells.choose(config, chosen, overrides)
    return cells.reach(shorthand.with_matched(config, given), overrides, before)


def _refuse_other_groups(name: str, overrides: Sequence[Override], folder: Path | None) -> None:
    known, taken = groups(folder), TAKES[name]
    for override in overrides:
        group = override.key
        if group in known and group not in taken and override.mark != "~":
            many = {"policy": "policies=[NAME,...] chooses policies in every cell."}
            raise UsageError(
                message(
                    f"`namm-mm {name}` has no {group} to choose",
                    given=override.text,
                    expected=f"one of {', '.join(f'{taken_one}=NAME' for taken_one in taken)}",
                    then=many.get(group, "") if name == "transfer" else "",
                )
            )


def _composed(name: str, overrides: Sequence[Override], folder: Path | None) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = groups(folder)
    words = asked_of_hydra(overrides, folder)
    try:
        with initialize_config_module(CONFIGS, version_base="1.3"):
            config = hydra_compose(name, overrides=words)
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, *OF_FILES) as error:
        if missing := re.search(r"delete from config\. '(.+?)' does not exist", str(error)):
            others = [o for o in overrides if o.mark != "~"]
            _refuse_to_delete(missing[1], _composed(name, others, folder))
        _refuse(error, name, [o.text for o in overrides])
    refuse_misspelled_groups(overrides, _keys(name), {g: known[g] for g in TAKES[name]})
    return _tracker({str(key): value for key, value in plain.items()})


def asked_of_hydra(overrides: Sequence[Override], folder: Path | None) -> list[str]:
    """Word overrides as Hydra takes them, a user's folder included."""
    words = hydra_words(overrides, groups(folder))
    return words if folder is None else [*words, f"hydra.searchpath=[file://{folder.resolve()}]"]


def _keys(name: str) -> set[str]:
    """The keys that the primary configuration itself has."""
    text = (files(CONFIGS) / f"{name}.yaml").read_text(encoding="utf-8")
    return set(yaml.safe_load(text)) - {"defaults"}


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
            f"{above or 'the configuration'} has nothing of this name to leave out",
            given=given,
            expected="a key with a value",
            valid=[k for k, v in config.items() if v is not None]
            if isinstance(config, Mapping)
            else (),
        )
    )


def _refuse(error: Exception, name: str, words: Sequence[str]) -> NoReturn:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2]).partition(" See https://")[0]
    if lacking := re.search(r"Missing mandatory value.*full_key: (\S+)", " ".join(lines)):
        raise UsageError(
            message(
                "a value is missing",
                given=f"nothing for {lacking[1]}",
                expected=f"{lacking[1]}=VALUE",
                then=f"`namm-mm {name} --cfg job` prints the others once it is set.",
            )
        ) from error
    group = re.search(r"Could not override '(.+?)'", said)
    if group:
        said = f"it has no group {group[1]!r} to choose from."
    raise UsageError(
        message(
            f"the configuration of `namm-mm {name}` cannot be composed: {said.rstrip('.')}",
            given=" ".join(words),
            expected="KEY=VALUE as Hydra reads it",
            then=f"`namm-mm {name} --help` shows what it takes.",
        )
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
