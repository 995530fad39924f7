"""A table of sizes per layer and head: where memory is needed, and nothing of which token.

``heads:FILE`` gives every head its fixed part of the tokens seen, whatever the policy inside. It is
the control that says whether a policy with sizes of its own knows more than where.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.registry.bundled import Bundled

MAKE = "`namm-mm build head-table model=NAME policy=NAME out=FILE` makes one."
TABLES = Bundled("table of heads", "heads_", ".json", MAKE)


@dataclass(frozen=True)
class HeadTable:
    """Parts of the tokens seen, layer by layer and head by head.

    Attributes
    ----------
    parts
        ``parts[layer][kv_head]``, each above 0 and at most 1.
    card
        What it was made with: ``model``, ``policy``, ``budget``, ``prompts``.
    """

    parts: tuple[tuple[float, ...], ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `UsageError` for parts that cannot be."""
        flat = [part for layer in self.parts for part in layer]
        if not flat or not all(0.0 < part <= 1.0 for part in flat):
            raise UsageError(
                message(
                    "wrong parts in a table of heads",
                    given=f"{min(flat, default=0):g} to {max(flat, default=0):g}",
                    expected="a part above 0 and at most 1 for each layer and head",
                )
            )

    @classmethod
    def of(cls, parts: Sequence[Sequence[float]], card: Mapping[str, Any]) -> HeadTable:
        """Return a table of any sequences of numbers."""
        return cls(tuple(tuple(float(part) for part in layer) for layer in parts), dict(card))

    @property
    def model(self) -> str:
        """The model that it was made on."""
        return str(self.card.get("model", ""))

    def sizes(self, layer: int, seen: int) -> tuple[int, ...]:
        """Return the tokens of each head of `layer` after `seen` tokens, at least one."""
        return tuple(max(1, round(part * seen)) for part in self.parts[layer])

    def check_model(self, layers: int, kv_heads: int) -> None:
        """Raise `UsageError` where a model has other layers or heads."""
        given = (len(self.parts), len(self.parts[0]))
        if given != (layers, kv_heads):
            raise UsageError(
                message(
                    "the table of heads does not fit the model",
                    given=f"a table of {given[0]} layers with {given[1]} heads, "
                    f"made on {self.model or 'another model'}",
                    expected=f"{layers} layers with {kv_heads} heads",
                    then=MAKE,
                )
            )

    def save(self, file: Path) -> Path:
        """Write the table with its card."""
        file.parent.mkdir(parents=True, exist_ok=True)
        plain = {"card": dict(self.card), "parts": [list(layer) for layer in self.parts]}
        file.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        return file


def load_table(name: str) -> HeadTable:
    """Read a table: a bundled name or a file.

    Raises
    ------
    UsageError
        There is no such file, or it holds no table.
    """
    file = TABLES.find(name)
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        return HeadTable.of(plain["parts"], plain["card"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        expected = "a JSON file with `parts` for each layer and head, and a `card`"
        raise TABLES.unreadable(file, error, expected) from error
