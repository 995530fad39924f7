"""Policies: one short file per rule. ``create("h2o", budget=0.25)`` builds one by name.

Every class is here too: ``policies.H2O(budget=0.25)``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from namm_mm.policies.base import Budget, KeepAll, LayerView, Policy, Selection, Threshold
from namm_mm.policies.creating import BUILTIN, POLICIES, create

if TYPE_CHECKING:
    from namm_mm.policies.adakv import AdaKV
    from namm_mm.policies.attention_ema import AttentionEma
    from namm_mm.policies.attention_max import AttentionMax
    from namm_mm.policies.criticalkv import CriticalKV
    from namm_mm.policies.expected_attention import ExpectedAttention
    from namm_mm.policies.full import Full
    from namm_mm.policies.h2o import H2O, H2O16
    from namm_mm.policies.infinipot_v import InfiniPotV
    from namm_mm.policies.keydiff import KeyDiff
    from namm_mm.policies.kvzip import KVzip
    from namm_mm.policies.l2 import L2, L2All
    from namm_mm.policies.lagkv import LagKV
    from namm_mm.policies.less import Less
    from namm_mm.policies.namm import NammPolicy
    from namm_mm.policies.probed import Probed
    from namm_mm.policies.protected import Protected
    from namm_mm.policies.pyramid import Pyramid
    from namm_mm.policies.random import Random
    from namm_mm.policies.recency import Recency
    from namm_mm.policies.snapkv import SnapKV
    from namm_mm.policies.tova import Tova
    from namm_mm.policies.trimkv import TrimKV
    from namm_mm.policies.window import Window

_CLASSES = {entry.partition(":")[2]: entry.partition(":")[0] for entry in BUILTIN.values()}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'namm_mm.policies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "H2O",
    "H2O16",
    "L2",
    "POLICIES",
    "AdaKV",
    "AttentionEma",
    "AttentionMax",
    "Budget",
    "CriticalKV",
    "ExpectedAttention",
    "Full",
    "InfiniPotV",
    "KVzip",
    "KeepAll",
    "KeyDiff",
    "L2All",
    "LagKV",
    "LayerView",
    "Less",
    "NammPolicy",
    "Policy",
    "Probed",
    "Protected",
    "Pyramid",
    "Random",
    "Recency",
    "Selection",
    "SnapKV",
    "Threshold",
    "Tova",
    "TrimKV",
    "Window",
    "create",
]
