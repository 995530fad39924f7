"""Read the rows of a parquet file; needs pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, message


def read(path: Path) -> list[dict[str, Any]]:
    """Return all rows, in order.

    Raises
    ------
    RunError
        pyarrow is not installed, or the file is damaged.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise RunError(
            message(
                "pyarrow is not installed",
                given=path.name,
                expected="a package that reads parquet",
                then="`pip install 'namm-mm[benchmarks]'`.",
            )
        ) from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these
        raise RunError(
            message(
                f"cannot open {path}: it is damaged or truncated ({error})",
                given=f"{path.stat().st_size} bytes",
                expected="a parquet file",
            )
        ) from error
    return rows
