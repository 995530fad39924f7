"""The words of a sweep: KEY=A,B in Hydra's grammar, and every combination of the values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from namm_mm.commands.overrides import REGISTRIES, Groups, Override
from namm_mm.errors import UsageError, message
from namm_mm.runs.names import words_name

EXAMPLE = "--multirun policy=h2o,snapkv seed=0,1"


@dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Attributes
    ----------
    name
        Its values, for a reader: ``policy=h2o, seed=0``.
    folder
        The same as the name of a folder: ``policy-h2o_seed-0``.
    words
        The command line of this run.
    """

    name: str
    folder: str
    words: tuple[str, ...]


def combinations(overrides: Sequence[Override], groups: Groups) -> list[Combination]:
    """Return every combination of the values that a command line gives, in its order.

    Parameters
    ----------
    overrides
        The words of the command line: ``policy=h2o,snapkv seed=range(0,3) 'task=glob(long*)'``.
    groups
        Configuration groups with their options, for ``glob``.

    Raises
    ------
    UsageError
        No word has several values, or where runs go is swept.
    """
    swept = {o.text: many for o in overrides if (many := values(o, groups)) is not None}
    if not swept:
        raise UsageError(
            message(
                "nothing to sweep",
                given=" ".join(o.text for o in overrides) or "--multirun alone",
                expected="KEY=A,B at least once, with a comma and no space between the values",
                then=f"For example `namm-mm transfer {EXAMPLE}`.",
            )
        )
    for override in overrides:
        if override.key in ("folder", "output", "shard"):
            _refuse_place(override, swept)
    found: dict[str, Combination] = {}
    for chosen in itertools.product(*swept.values()):
        of_this = dict(zip(swept, chosen, strict=True))
        name = ", ".join(word.lstrip("+") for word in chosen)
        words = tuple(of_this.get(o.text, o.text) for o in overrides if o.key != "folder")
        found[name] = Combination(name, words_name(word.lstrip("+") for word in chosen), words)
    return list(found.values())


def _refuse_place(override: Override, swept: Iterable[str]) -> None:
    if override.key == "shard":
        raise UsageError(
            message(
                "a sweep has no shards",
                given=override.text,
                expected="whole runs",
                then="Without --multirun each run can have shards of its own.",
            )
        )
    if override.text in swept:
        raise UsageError(
            message(
                f"{override.key}= is one place for all runs of a sweep",
                given=override.text,
                expected="one folder, in which every run gets its own",
            )
        )


def refuse_several(overrides: Iterable[Override]) -> None:
    """Refuse KEY=A,B in a command that makes one run.

    Raises
    ------
    UsageError
        A word has several values.
    """
    for override in overrides:
        if values(override, {}) is not None:
            value = override.value or ""
            lists = {"seed": "seeds", "policy": "policies", "budget": "budgets"}
            key = lists.get(override.key, override.key)
            then = "`--multirun` makes a run of each."
            if key in lists.values():
                then += f" In one run: '{key}=[{value.strip('[]')}]'."
            raise UsageError(
                message(
                    f"several values of {override.key!r}",
                    given=override.text,
                    expected="one value",
                    then=then,
                )
            )


def values(override: Override, groups: Groups) -> list[str] | None:
    """Return a word for each value of ``KEY=A,B``; None where there is one value.

    What cannot be parsed has one value: composing it says what is wrong.

    Raises
    ------
    UsageError
        A ``glob`` finds nothing.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    if not re.search(r"[,(]", override.value or ""):
        return None
    try:
        parsed = OverridesParser.create().parse_override(override.text)
    except HydraException:
        return None
    if not parsed.is_sweep_override():
        return None
    start = f"{override.mark}{override.key}="
    sweep = parsed.value()
    if not isinstance(sweep, Glob):
        return [start + _plain(str(value)) for value in parsed.sweep_string_iterator()]
    known = sorted({*groups.get(override.group, ()), *REGISTRIES.get(override.group, ())})
    names = sweep.filter(known)
    if groups and not names:
        raise UsageError(
            message(
                "no name matches",
                given=override.text,
                expected=f"a pattern of some {override.group}",
                valid=known,
            )
        )
    return [start + name for name in names]


def _plain(value: str) -> str:
    """Without the backslashes that Hydra puts before marks which need none."""
    return value.replace("\\:", ":")
