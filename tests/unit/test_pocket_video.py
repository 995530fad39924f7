"""The bundled video model answers from what it saw, and needs to remember it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from namm_mm import attach, policy
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.models.cards import BUNDLED, read_card
from namm_mm.policies import Budget, Policy
from namm_mm.records import Sample
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.questions import COVERED, REAL

EACH = 5


@pytest.fixture(scope="module")
def adapter() -> LlavaVideoAdapter:
    found = LlavaVideoAdapter()
    found.load()
    return found


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Sample]:
    task = VideoQaTask(cache=str(tmp_path_factory.mktemp("videos")))
    return task.samples("test", 5 * EACH, 7)


def accuracy(adapter: LlavaVideoAdapter, samples: Sequence[Sample], use: Policy | None) -> float:
    right = 0
    for sample in samples:
        inputs = adapter.prepare(sample)
        if use is None:
            right += adapter.answer(inputs, None).text == sample.answer
            continue
        with attach(adapter.backbone, use, interval=16) as memory:
            right += adapter.answer(inputs, memory).text == sample.answer
    return right / len(samples)


@pytest.mark.slow
def test_it_answers_and_recency_at_a_quarter_of_the_cache_does_not(
    adapter: LlavaVideoAdapter, samples: Sequence[Sample]
) -> None:
    full = accuracy(adapter, samples, policy("full"))
    assert accuracy(adapter, samples[:5], None) == accuracy(adapter, samples[:5], policy("full"))
    recent = accuracy(adapter, samples, policy("recency", budget=Budget(fraction=0.25)))
    assert full > 0.65
    assert recent < full - 0.25


def test_a_namm_at_half_of_the_tokens_is_smaller_than_the_full_cache(
    adapter: LlavaVideoAdapter, samples: Sequence[Sample]
) -> None:
    inputs, found = adapter.prepare(samples[0]), []
    for use in (policy("full"), policy("namm", budget="pool:0.5")):
        with attach(adapter.backbone, use, interval=64, storage="per_head") as memory:
            adapter.answer(inputs, memory)
        found.append(memory.usage())
    full, namm = found
    assert namm.bytes_final < full.bytes_final
    assert namm.live_final is not None
    assert full.live_final is not None
    assert namm.live_final < 0.85 * full.live_final


def test_its_card_says_how_well_it_does(adapter: LlavaVideoAdapter) -> None:
    card = read_card(BUNDLED / adapter.model)
    assert card["made_by"] == "namm-mm build pocket-video"
    assert card["licence"] == "Apache-2.0"
    covered = card["data"]["families"]
    assert set(COVERED) == set(covered) - set(REAL), "what is asked by default is what was learned"
    for split in ("validation", "test"):
        assert all(card["accuracy_full_cache"][split][family] >= 0.8 for family in covered)
    size = sum(path.stat().st_size for path in (BUNDLED / adapter.model).iterdir())
    assert size < 6 * 2**20
