"""namm-mm: one attention memory, made on text, plugged unchanged into other modalities.

``import namm_mm`` is light: torch and transformers load with the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from namm_mm import policies
    from namm_mm.errors import NammWarning
    from namm_mm.memory import Memory, attach
    from namm_mm.namm import Namm
    from namm_mm.policies import create as policy

try:
    __version__ = version("namm-mm")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "attach": ("namm_mm.memory", "attach"),
    "Memory": ("namm_mm.memory", "Memory"),
    "Namm": ("namm_mm.namm", "Namm"),
    "NammWarning": ("namm_mm.errors", "NammWarning"),
    "policies": ("namm_mm.policies", ""),
    "policy": ("namm_mm.policies", "create"),
}

__all__ = ["Memory", "Namm", "NammWarning", "__version__", "attach", "policies", "policy"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        loaded = import_module(module)
        return getattr(loaded, attribute) if attribute else loaded
    if name == "load":
        raise ImportError("namm_mm.load is called namm_mm.Namm.from_pretrained now.")
    raise AttributeError(f"module 'namm_mm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
