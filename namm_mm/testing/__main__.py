"""Command line: ``python -m namm_mm.testing parity FILE.npz``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from namm_mm.errors import NammError
from namm_mm.testing.parity import check_parity, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one check; return 0 if it passes, 1 if it does not, 2 for a request that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m namm_mm.testing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parity = commands.add_parser("parity", help="replay recorded outputs of the official modules")
    parity.add_argument("file", type=Path, metavar="FILE.npz")
    chosen = parser.parse_args(arguments)
    try:
        return _parity(chosen.file)
    except NammError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parity(file: Path) -> int:
    deviations = check_parity(file)
    sys.stdout.write(table(deviations) + "\n")
    return 0 if all(deviation.passed for deviation in deviations) else 1


if __name__ == "__main__":
    sys.exit(main())
