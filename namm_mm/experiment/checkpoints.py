"""The checkpoint of a cell reaches each NAMM in it, also one below another policy."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from namm_mm.errors import NammError
from namm_mm.policies.creating import POLICIES

NAMM = "namm"


def with_checkpoint(name: str, options: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """Return the options of a policy where each NAMM that names no checkpoint has this one.

    Parameters
    ----------
    name, options
        Of the policy: ``namm`` itself, or one on top of others (``over``).
    checkpoint
        A bundled name, a folder or a file.
    """
    if name == NAMM:
        return {"checkpoint": checkpoint, **options}
    below = _below(name, options)
    if below is None or not list(_namms(*below)):
        return dict(options)
    inner = with_checkpoint(*below, checkpoint)
    return {**options, "over": {"name": below[0], **inner}}


def checkpoints(name: str, options: Mapping[str, Any]) -> list[str]:
    """Return the checkpoint of each NAMM in a policy; ``namm`` where one names none."""
    return [str(found.get("checkpoint", NAMM)) for found in _namms(name, options)]


def _namms(name: str, options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The options of each NAMM in a policy."""
    if name == NAMM:
        yield options
    elif (below := _below(name, options)) is not None:
        yield from _namms(*below)


def _below(name: str, options: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Name and options of the policy below; None for a policy that is on top of none."""
    try:
        fields = inspect.signature(POLICIES.get(name)).parameters
    except NammError:  # the check of the settings says it
        return None
    if "over" not in fields:
        return None
    over = options.get("over", fields["over"].default)
    if isinstance(over, str):
        return over, {}
    if isinstance(over, Mapping) and "name" in over:
        rest = {key: value for key, value in over.items() if key != "name"}
        return str(over["name"]), rest
    return None
