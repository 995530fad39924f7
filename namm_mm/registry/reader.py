"""Read plain values of a configuration, noting every problem under its full key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from namm_mm.errors import message


@dataclass(frozen=True)
class Choice:
    """A registered name and the options it is built with."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Reader:
    """Reads one mapping, noting problems under their full key instead of raising.

    Parameters
    ----------
    data
        The mapping; anything else is a problem of its own.
    prefix
        What comes before its keys in a message: ``cells.text.``.
    problems
        A list to add to, shared by the readers of one configuration.
    """

    def __init__(self, data: Any, prefix: str, problems: list[str] | None = None) -> None:
        self.problems: list[str] = [] if problems is None else problems
        self.prefix = prefix
        if not isinstance(data, Mapping):
            self.problem("", data, "a mapping of keys to values")
            data = {}
        self.data: dict[str, Any] = dict(data)

    def problem(self, key: str, given: object, expected: str, valid: Iterable[str] = ()) -> None:
        """Note what is wrong with `key`."""
        where = f"{self.prefix}{key}".rstrip(".") or "configuration"
        self.problems.append(message(where, given=given, expected=expected, valid=valid))

    def allow(self, keys: Iterable[str], *, renamed: Mapping[str, str] | None = None) -> None:
        """Note every key that is not among `keys`; one of `renamed` with its name of today."""
        where = self.prefix.rstrip(".") or "the configuration"
        for key in sorted(set(self.data) - set(keys), key=str):
            new = (renamed or {}).get(key)
            self.problems.append(
                message(f"renamed key in {where}", given=key, expected=f"its new name, {new}")
                if new
                else message(
                    f"unknown key in {where}", given=key, expected="a known key", valid=keys
                )
            )

    def text(self, key: str, default: str) -> str:
        """A text that is not empty."""
        value = self.data.get(key, default)
        if not isinstance(value, str | Path) or not str(value):
            self.problem(key, value, "a text that is not empty")
            return default
        return str(value)

    def one_of(self, key: str, valid: Iterable[str], default: str) -> str:
        """One of the words `valid`."""
        value = self.data.get(key)
        if value is None:
            return default
        if value not in valid:
            self.problem(key, value, "one of the known words", valid)
            return default
        return str(value)

    def integer(self, key: str, default: int | None, *, minimum: int) -> int | None:
        """An integer of `minimum` or more, or `default` where nothing is given."""
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            self.problem(key, value, f"an integer of {minimum} or more")
            return default
        return value

    def number(self, key: str, default: float, *, minimum: float, above: bool = False) -> float:
        """A finite number of `minimum` or more, or above it."""
        value = self.data.get(key)
        if value is None:
            return default
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or value < minimum or (above and value == minimum):
            self.problem(key, value, f"a number {'above' if above else 'of at least'} {minimum:g}")
            return default
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """Read true or false."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(key, value, "true or false")
            return default
        return value

    def optional(self, key: str) -> float | None:
        """A number above 0, or None where nothing is given."""
        if self.data.get(key) is None:
            return None
        return self.number(key, 1.0, minimum=0.0, above=True)

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Different integers of 0 or more."""
        values = self.sequence(key, default)
        if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values):
            self.problem(key, values, "a list of integers of 0 or more")
            return default
        if len(set(values)) != len(values):
            self.problem(key, values, "a list of different integers")
        return tuple(values)

    def sequence(self, key: str, default: Iterable[Any]) -> list[Any]:
        """A list that is not empty."""
        value = self.data.get(key)
        if value is None:
            return list(default)
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            self.problem(key, value, "a list, as in [a,b]")
            return list(default)
        if not (found := list(value)):
            self.problem(key, found, "a list that is not empty")
            return list(default)
        return found

    def mapping(self, key: str, *, expected: str) -> dict[str, Any]:
        """A mapping that is not empty."""
        value = self.data.get(key)
        if not isinstance(value, Mapping) or not value:
            self.problem(key, value, expected)
            return {}
        return {str(name): inner for name, inner in value.items()}

    def choice(self, key: str) -> Choice:
        """A name with options."""
        return self.as_choice(key, self.data.get(key))

    def as_choice(self, key: str, value: Any) -> Choice:
        """A bare name, or a mapping of `name` and options."""
        if isinstance(value, str) and value:
            return Choice(value)
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return Choice(value["name"], {str(k): v for k, v in value.items() if k != "name"})
        self.problem(key, value, "a name, or a mapping with a `name` and options")
        return Choice("")


def listed(problems: Iterable[str], what: str = "problems in the configuration") -> str:
    """Return one message for one or many problems; one that several cells share is said once."""
    cells: dict[str, list[str]] = {}
    for problem in dict.fromkeys(problems):
        cell = re.match(r"cells\.([^.:]+)\.", problem)
        names = cells.setdefault(problem[cell.end() :] if cell else problem, [])
        names += [cell[1]] if cell else []
    found = [f"cells.{','.join(names)}.{rest}" if names else rest for rest, names in cells.items()]
    if len(found) == 1:
        return found[0]
    return "\n".join([f"{len(found)} {what}:", *(f"- {problem}" for problem in found)])
