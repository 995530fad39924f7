"""Open HDF5 files and read their arrays; what is wrong is said with the file and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import NammError, RunError, message

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

_REASONS = (
    ("unable to lock file", "it is in use: a program is writing it", "Wait for that program."),
    (
        "already open for write",
        "a program is writing it, or was killed while it did",
        "Wait for that program, or run `h5clear -s FILE` if there is none.",
    ),
    (
        "truncated file",
        "it is truncated: a part of it is missing",
        "Delete it and fetch or build it again.",
    ),
    ("signature not found", "it is no HDF5 file", "It may be a page of a download that failed."),
)
"""Part of what the library says, what that means, and what to do."""
_DAMAGED = "it is damaged or truncated", "Delete it and fetch or build it again."
_FILTERS = {
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32026: "Blosc2",
}


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Return a file that is open for reading.

    Raises
    ------
    RunError
        It is absent, in use, truncated or damaged; also if what is read inside of the block is.
    """
    import h5py

    try:
        if not path.is_file():
            raise RunError(message("no such data set", given=str(path), expected="an HDF5 file"))
        with h5py.File(path, "r") as file:
            yield file
    except NammError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise _unreadable(path, error) from error


def read(dataset: h5py.Dataset, where: str) -> NDArray[Any]:
    """Return an array of numbers.

    Raises
    ------
    RunError
        It is packed by a filter that is not installed, is damaged, or holds no numbers.
    """
    _check_filters(dataset, where)
    try:
        values = np.asarray(dataset[()])
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise RunError(f"{where} cannot be read, the file is damaged: {error}") from error
    if values.dtype.kind not in "fiub":
        raise RunError(message(f"{where}: wrong data", given=str(values.dtype), expected="numbers"))
    return values


def as_float32(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return numbers as they are computed with; `RunError` if one of them is not finite then."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    if not np.isfinite(found).all():
        largest = "NaN or infinity"
        if np.isfinite(values).all():
            largest = f"{np.abs(values).max():.3g}, which float32 cannot hold"
        raise RunError(message(f"{where}: wrong data", given=largest, expected="finite numbers"))
    return found


def _unreadable(path: Path, error: Exception) -> RunError:
    said = " ".join(str(error).split())
    known = (reason[1:] for reason in _REASONS if reason[0] in said)
    what, then = next(known, _DAMAGED)
    try:
        given = f"{path.stat().st_size} bytes"
    except OSError as gone:
        given = str(gone)
    return RunError(
        message(
            f"cannot open {path}: {what} ({said[:200]})",
            given=given,
            expected="a whole HDF5 file",
            then=then,
        )
    )


def _check_filters(dataset: h5py.Dataset, where: str) -> None:
    import h5py

    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        number, _, _, name = properties.get_filter(index)
        if not h5py.h5z.filter_avail(number):
            known = _FILTERS.get(number, name.decode(errors="replace") or "unknown")
            raise RunError(
                message(
                    f"{where} is packed by a filter that is not installed",
                    given=f"filter {number} ({known})",
                    expected="gzip, or a filter that h5py finds",
                    then="`pip install hdf5plugin` and import it first, or unpack the file with "
                    "`h5repack -f GZIP=4`.",
                )
            )
