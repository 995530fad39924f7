"""The control adapter and task keep every promise that third-party ones are asked to keep."""

from __future__ import annotations

import pytest

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.tasks.offline_rl import OfflineRlTask
from namm_mm.testing import check_adapter, check_task

pytestmark = pytest.mark.numeric


def test_the_decision_transformer_is_a_conforming_adapter() -> None:
    kept = check_adapter(DecisionTransformerAdapter(device="cpu"))
    assert "a finished episode's memory stays as it was" in kept


def test_offline_rl_is_a_conforming_task() -> None:
    assert "it plays" in check_task(OfflineRlTask(max_steps=30))
    assert "it plays" in check_task(OfflineRlTask("HalfCheetah-v5", max_steps=5), limit=2)
