"""Triton's kernels for tests: on a GPU, or block by block in Triton's interpreter on the CPU.

`tests/conftest.py` asks for the interpreter, before Triton is imported.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from namm_mm.kernels import Kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed: pip install namm-mm[triton]"
)


def triton_kernels() -> Kernels:
    """Return the kernels."""
    found: Kernels = import_module("namm_mm.kernels.triton")
    return found
