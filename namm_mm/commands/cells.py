"""Cells of `namm-mm transfer` on the command line.

``adapter=A task=T`` composes one cell, ``cells=[A,B]`` chooses some, and ``policies=``, ``limit=``
and others reach all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from namm_mm.commands.overrides import Override
from namm_mm.errors import UsageError, message

CELL_WIDE = ("policies", "budgets", "interval", "storage", "protocol", "split", "limit")
"""Keys of a cell that `namm-mm transfer KEY=VALUE` sets in every cell."""

PARTS = ("adapter", "task")
"""The groups that make a cell of its own."""


def of_one_cell(overrides: Sequence[Override]) -> list[Override]:
    """Turn ``adapter=A task=T`` into an experiment of one cell, named as the task.

    Keys of the two (``adapter.model=M``) become keys of the cell. Other overrides stay as they are.

    Raises
    ------
    UsageError
        Only one of the two is given, or an experiment beside them.
    """
    given = {o.key: o for o in overrides if o.key in PARTS and o.mark != "~" and o.value}
    inner = [o for o in overrides if o.top in PARTS and o.key not in PARTS]
    if not given and not inner:
        return list(overrides)
    missing = [part for part in PARTS if part not in given]
    if missing:
        raise UsageError(
            message(
                "an adapter and a task make a cell together",
                given=" ".join(o.text for o in (*given.values(), *inner)),
                expected=f"{' and '.join(f'{part}=NAME' for part in missing)} too",
                then="In the cells of an experiment they are cells.NAME.adapter and "
                "cells.NAME.task.",
            )
        )
    for override in overrides:
        if override.top in ("experiment", "cells"):
            raise UsageError(
                message(
                    "adapter= and task= make an experiment of one cell",
                    given=override.text,
                    expected="no experiment and no cells beside them",
                    then="In the cells of an experiment they are cells.NAME.adapter and "
                    "cells.NAME.task.",
                )
            )
    adapter, task = (str(given[part].value) for part in PARTS)
    name = task.replace("/", "_").replace(".", "_")
    words = [
        Override("~experiment", "~", "experiment", None),
        _set("+", f"cell@cells.{name}", "default"),
        _set("+", f"adapter@cells.{name}.adapter", adapter),
        _set("+", f"task@cells.{name}.task", task),
    ]
    if not any(o.key == "name" for o in overrides):
        words.append(_set("++", "name", name))
    for override in overrides:
        if override.top in PARTS and override.key not in PARTS:
            key = f"cells.{name}.{override.key}"
            value = "" if override.value is None else f"={override.value}"
            words.append(replace(override, key=key, text=f"{override.mark}{key}{value}"))
        elif override.key not in PARTS:
            words.append(override)
    return words


def without_choice(overrides: Iterable[Override]) -> tuple[list[Override], list[str] | None]:
    """Split ``cells=[a,b]`` from the other overrides; the names are None where it is not given."""
    others: list[Override] = []
    names = None
    for override in overrides:
        value = override.value
        if override.key == "cells" and value is not None and not value.startswith("{"):
            names = [name.strip(" '\"") for name in value.strip("[]").split(",")]
        else:
            others.append(override)
    return others, names


def choose(
    config: Mapping[str, Any], names: Sequence[str], overrides: Iterable[Override]
) -> dict[str, Any]:
    """Keep the named cells of a configuration, in the order of the configuration.

    Raises
    ------
    UsageError
        A name is no cell's, or another override sets a key of a cell that is not chosen.
    """
    cells = config.get("cells") or {}
    if not isinstance(cells, Mapping):
        return dict(config)
    for name in names:
        if name not in cells:
            raise UsageError(
                message(
                    f"unknown cell of the experiment {config.get('name')!r}",
                    given=name,
                    expected="one of its cells",
                    valid=cells,
                )
            )
    for override in overrides:
        parts = override.key.split(".")
        if parts[0] == "cells" and len(parts) > 1 and parts[1] in cells and parts[1] not in names:
            raise UsageError(
                message(
                    f"this setting has no effect: the cell {parts[1]!r} is not chosen",
                    given=override.text,
                    expected=f"a key of one of the chosen cells, {', '.join(names)}",
                )
            )
    return {**config, "cells": {name: cell for name, cell in cells.items() if name in names}}


def reach(
    config: Mapping[str, Any], overrides: Iterable[Override], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Let what the command line sets for all cells reach every one of them.

    A key of a cell that the command line sets keeps that value. A policy given by its bare name is
    the one of the cell, with the options and budgets that the experiment gives it there; a mapping
    with a `name` stands for itself.

    Parameters
    ----------
    config
        The composed configuration.
    overrides
        The words of the command line.
    before
        The configuration composed without any ``policies=`` of the command line.
    """
    if not isinstance(config.get("cells") or {}, Mapping):
        return dict(config)  # the settings say what is wrong with it
    keys = {o.key for o in overrides if o.mark != "~"}
    wide = {key: config.get(key) for key in CELL_WIDE if key in keys}
    cells = {}
    for name, cell in (config.get("cells") or {}).items():
        if not isinstance(cell, Mapping):
            cells[name] = cell
            continue
        reached = {k: v for k, v in wide.items() if f"cells.{name}.{k}" not in keys}
        cells[name] = {**cell, **reached}
        if "policies" in reached or f"cells.{name}.policies" in keys:
            known = _policies(before, name)
            cells[name]["policies"] = _as_known(cells[name].get("policies"), known)
    return {**config, **dict.fromkeys(wide), "cells": cells}


def policies_of(override: Override) -> bool:
    """Whether an override sets the policies of cells."""
    parts = override.key.split(".")
    return parts == ["policies"] or (len(parts) == 3 and parts[::2] == ["cells", "policies"])


def _policies(config: Mapping[str, Any], cell: str) -> Sequence[Any]:
    """The policies of a cell, which may leave them to the experiment."""
    cells = config.get("cells") or {}
    own = cells.get(cell)
    found = (own.get("policies") if isinstance(own, Mapping) else None) or config.get("policies")
    return found if isinstance(found, list) else ()


def _as_known(given: Any, known: Sequence[Any]) -> Any:
    """Replace each bare name by the entries of that name in `known`, if there are any."""
    if not isinstance(given, list):
        return given
    found: list[Any] = []
    for entry in given:
        same = [policy for policy in known if _name(policy) == entry]
        found += same if isinstance(entry, str) and same else [entry]
    return found


def _name(policy: Any) -> Any:
    return policy.get("name") if isinstance(policy, Mapping) else policy


def _set(mark: str, key: str, value: str) -> Override:
    return Override(f"{mark}{key}={value}", mark, key, value)
