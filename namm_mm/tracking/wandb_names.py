"""Keys of W&B: short names of models and methods, and text that W&B takes."""

from __future__ import annotations

import re
from itertools import chain, count

from namm_mm.results.cells import Cell, Method


class Names:
    """Names of a cell's methods as parts of keys, each for one method of a task only."""

    def __init__(self) -> None:
        self._names: dict[tuple[Cell, Method], str] = {}

    def of(self, cell: Cell, method: Method) -> str:
        """Return model, policy and budget; more only where that is not enough."""
        if (cell, method) not in self._names:
            short = f"{safe(cell.model)}/{safe(method.label)}"
            taken = {name for (other, _), name in self._names.items() if other.task == cell.task}
            long = f"{short}_{safe('_'.join(map(str, method[3:])))}"
            names = chain((short, long), (f"{long}_{number}" for number in count(2)))
            self._names[cell, method] = next(name for name in names if name not in taken)
        return self._names[cell, method]


def safe(text: str) -> str:
    """Return a part of a key: letters, digits, hyphens and underscores."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_")


def printable(text: str) -> str:
    """Return the text as valid UTF-8: W&B refuses lone surrogates."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
