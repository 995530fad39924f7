"""Kernels compile ahead of time for the GPUs that people have, without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreted import needs_triton

ROOT = Path(__file__).parents[2]


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(("target", "heads"), [("80", "64"), ("90", "128"), ("90", "256")])
def test_kernels_compile(target: str, heads: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = ["research/benchmarks/gpu_compile.py", "--targets", target, "--heads", heads]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 14
    for name, *_, spilled, shared in rows:
        assert int(spilled) <= (512 if "attention" in name else 64), name
        assert int(shared.rstrip(" |")) <= 100 * 1024, name
