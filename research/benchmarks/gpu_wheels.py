"""Print the wheels that a machine with a GPU needs, one requirement a line, for `pip download -r`.

    python research/benchmarks/gpu_wheels.py > wheels.txt

They are what this package needs, and what the tests need, in the versions of `constraints.txt`.
torch brings CUDA's own wheels.
"""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

PINS = Path(__file__).parents[2] / "constraints.txt"
MORE = ("pytest", "pytest-xdist", "pytest-socket", "hypothesis", "triton")


def wheels() -> list[str]:
    """Return ``name==version`` of every direct requirement."""
    pins = dict(
        line.split("==") for line in PINS.read_text(encoding="utf-8").splitlines() if "==" in line
    )
    needed = [Requirement(text) for text in requires("namm-mm") or []]
    names = [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [f"{name}=={pins[name.lower()]}" for name in (*names, *MORE)]


if __name__ == "__main__":
    print("\n".join(wheels()))
