"""What others can test their own work with: the parity check and the conformance kit.

``python -m namm_mm.testing`` is the command-line side of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namm_mm.testing.parity import check_parity

_LAZY = {
    "check_parity": ("namm_mm.testing.parity", "check_parity"),
}

__all__ = ["check_parity"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'namm_mm.testing' has no attribute {name!r}")
