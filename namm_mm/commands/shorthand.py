"""``policy=``, ``budget=`` and ``seed=``: one of what an experiment has several of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from namm_mm.commands.overrides import Override
from namm_mm.errors import UsageError, message
from namm_mm.policies.budgets import matched_policy

ONE_OF: Mapping[str, Mapping[str, str]] = {
    "transfer": {"policy": "policies", "budget": "budgets", "seed": "seeds"},
    "evaluate": {"seed": "seeds"},
}
"""For each verb the keys of one value, and the keys of the list that they stand for."""


def in_full(verb: str, overrides: Sequence[Override]) -> list[Override]:
    """Turn ``policy=h2o`` into ``policies=[h2o]``, and so on.

    Raises
    ------
    UsageError
        The list is given as well.
    """
    lists = ONE_OF.get(verb, {})
    given = {o.key: o for o in overrides}
    found = []
    for override in overrides:
        key = lists.get(override.key)
        if key is None or override.mark == "~" or not override.value:
            found.append(override)
            continue
        if key in given:
            raise UsageError(
                message(
                    f"{override.key}= is one of {key}=",
                    given=f"{override.text} {given[key].text}",
                    expected="one of the two",
                )
            )
        value = f"[{override.value}]"
        text = f"{override.mark}{key}={value}"
        found.append(dataclasses.replace(override, text=text, key=key, value=value))
    return found


def with_matched(config: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Put beside the one policy of ``policy=h2o`` those which its budgets are matched to.

    Parameters
    ----------
    config
        The composed configuration, in which `policies` is the one of the command line.
    overrides
        The words of the command line as they were given.
    """
    if not any(o.key == "policy" and o.value not in (None, "full") for o in overrides):
        return dict(config)
    places = [config.get("budgets")]
    if not any(o.key in ("budget", "budgets") for o in overrides):
        cells = config.get("cells") or {}
        places += [cell.get("budgets") for cell in cells.values() if isinstance(cell, Mapping)]
    words = [str(word) for budgets in places if isinstance(budgets, list) for word in budgets]
    matched = dict.fromkeys(filter(None, map(matched_policy, words)))
    (policy,) = config["policies"]
    name = policy.get("name") if isinstance(policy, Mapping) else policy
    return {**config, "policies": [*(other for other in matched if other != name), policy]}
