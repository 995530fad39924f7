"""Build a policy by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import Policy
from namm_mm.registry.options import refuse_wrong_values
from namm_mm.registry.registry import Registry

BUILTIN = {
    "full": "namm_mm.policies.full:Full",
    "recency": "namm_mm.policies.recency:Recency",
    "random": "namm_mm.policies.random:Random",
    "h2o": "namm_mm.policies.h2o:H2O",
    "h2o_16": "namm_mm.policies.h2o:H2O16",
    "l2": "namm_mm.policies.l2:L2",
    "l2_all": "namm_mm.policies.l2:L2All",
    "window": "namm_mm.policies.window:Window",
    "attention_max": "namm_mm.policies.attention_max:AttentionMax",
    "attention_ema": "namm_mm.policies.attention_ema:AttentionEma",
    "snapkv": "namm_mm.policies.snapkv:SnapKV",
    "tova": "namm_mm.policies.tova:Tova",
    "expected_attention": "namm_mm.policies.expected_attention:ExpectedAttention",
    "keydiff": "namm_mm.policies.keydiff:KeyDiff",
    "kvzip": "namm_mm.policies.kvzip:KVzip",
    "lagkv": "namm_mm.policies.lagkv:LagKV",
    "infinipot_v": "namm_mm.policies.infinipot_v:InfiniPotV",
    "trimkv": "namm_mm.policies.trimkv:TrimKV",
    "protected": "namm_mm.policies.protected:Protected",
    "adakv": "namm_mm.policies.adakv:AdaKV",
    "criticalkv": "namm_mm.policies.criticalkv:CriticalKV",
    "pyramid": "namm_mm.policies.pyramid:Pyramid",
    "probed": "namm_mm.policies.probed:Probed",
    "less": "namm_mm.policies.less:Less",
    "namm": "namm_mm.policies.namm:NammPolicy",
}
"""Our own policies, name to ``module:class``."""

POLICIES: Registry[Callable[..., Policy]] = Registry("policy", "namm_mm.policies", BUILTIN)


def create(name: str, /, **options: Any) -> Policy:
    """Build the policy registered as `name`.

    Parameters
    ----------
    options
        Fields of the policy. ``budget`` is a fraction of the tokens seen, the words of a
        configuration such as ``"tokens:512"``, or a rule of selection.

    Returns
    -------
    Policy
        A small frozen object; it serves any number of models.

    Raises
    ------
    UsageError
        An unknown name or option, or an option's wrong value.
    """
    factory = POLICIES.get(name)
    known = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in known:
            renamed = "`selection` is called `budget` now." if option == "selection" else ""
            raise UsageError(
                message(
                    f"unknown option of the policy {name!r}",
                    given=option,
                    expected="one of its fields",
                    valid=known,
                    then=renamed,
                )
            )
    refuse_wrong_values("policy", name, factory, options)
    return factory(**options)
