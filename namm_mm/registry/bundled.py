"""Files that ship with the package under a short name, and files like them anywhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from torch import Tensor

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class Bundled:
    """One kind of file: the bundled one of the name ``NAME`` is ``PREFIXNAME.SUFFIX``.

    Attributes
    ----------
    what
        The kind, as messages call it.
    prefix, suffix
        How names of bundled files begin and end.
    make
        The sentence that says which command makes one.
    """

    what: str
    prefix: str
    suffix: str
    make: str

    def path(self, name: str | Path) -> Path:
        """Return where the bundled file of this name lies, or would lie."""
        return ASSETS / f"{self.prefix}{name}{self.suffix}"

    def available(self) -> tuple[str, ...]:
        """Names of the bundled files."""
        found = ASSETS.glob(f"{self.prefix}*{self.suffix}")
        return tuple(sorted(file.stem.removeprefix(self.prefix) for file in found))

    def find(self, name: str | Path) -> Path:
        """Return the file of a bundled name, or the file itself.

        Raises
        ------
        UsageError
            There is no such file.
        """
        for file in (self.path(name), Path(name).expanduser()):
            if file.is_file():
                return file
        raise UsageError(
            message(
                f"no such {self.what}",
                given=str(name),
                expected=f"a bundled name or a {self.suffix} file",
                valid=self.available(),
                then=self.make,
            )
        )

    def unreadable(self, file: Path, error: Exception, expected: str) -> UsageError:
        """Return the error for a file that holds something else."""
        return UsageError(
            message(
                f"the {self.what} cannot be read ({type(error).__name__}: {error})",
                given=str(file),
                expected=expected,
                then=self.make,
            )
        )


def write_half(tensors: Mapping[str, Tensor], card: Mapping[str, Any], file: Path) -> Path:
    """Write tensors in half precision, with the card in the file's metadata."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    save_file(half, file, metadata={"card": json.dumps(dict(card))})
    return file


def read_half(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what :func:`write_half` wrote: tensors in float32, and the card.

    Raises
    ------
    ValueError, OSError
        The file is no safetensors file, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
            return tensors, json.loads((opened.metadata() or {}).get("card", "{}"))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
