"""What others can test their own work with: the parity check and the conformance kit.

``python -m namm_mm.testing`` is the command-line side of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namm_mm.testing.adapter_promises import check_adapter
    from namm_mm.testing.parity import check_parity
    from namm_mm.testing.policy_promises import check_policy
    from namm_mm.testing.promises import ConformanceError
    from namm_mm.testing.task_promises import check_task

_LAZY = {
    "ConformanceError": ("namm_mm.testing.promises", "ConformanceError"),
    "check_adapter": ("namm_mm.testing.adapter_promises", "check_adapter"),
    "check_parity": ("namm_mm.testing.parity", "check_parity"),
    "check_policy": ("namm_mm.testing.policy_promises", "check_policy"),
    "check_task": ("namm_mm.testing.task_promises", "check_task"),
}

__all__ = ["ConformanceError", "check_adapter", "check_parity", "check_policy", "check_task"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'namm_mm.testing' has no attribute {name!r}")
