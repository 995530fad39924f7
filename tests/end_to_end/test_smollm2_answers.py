"""SmolLM2 answers a question about its context, and not where the answer was cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.models import packaged
from namm_mm.tasks.long_text import LongTextTask

SMOLLM2 = packaged.MODELS["smollm2-135m-instruct"]


@pytest.mark.slow
@pytest.mark.skipif(
    not (packaged.cached(SMOLLM2) or packaged.source(SMOLLM2)),
    reason=f"needs `{SMOLLM2.install}`",
)
def test_smollm2_finds_a_pass_key_that_a_recent_window_does_not_hold() -> None:
    adapter = TextAdapter("smollm2-135m-instruct", device="cpu")
    adapter.load()
    task = LongTextTask(families=["passkey"], words=120)
    sample = task.samples("test", 1, seed=0)[0]
    newest = replace(sample, context=sample.context[-len(sample.context) // 4 :])
    whole, part = (
        task.score(s, adapter.answer(adapter.prepare(s), None)) for s in (sample, newest)
    )
    assert (whole.value, part.value) == (1.0, 0.0)
    assert whole.details["log_probability"] > part.details["log_probability"] + 5
