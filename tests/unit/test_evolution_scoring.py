"""Candidates that run together give what each gives alone, and fitness counts what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import text_checkpoints
import torch
from text_checkpoints import CHARACTERS
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.compose import compose
from namm_mm.errors import RunError, UsageError
from namm_mm.evolution import prompts, reading
from namm_mm.evolution.fitness import Fitness, Outcomes
from namm_mm.evolution.scoring import Conditions, Likelihood, TaskScore
from namm_mm.evolution.settings import StartSettings
from namm_mm.evolution.start import make_start
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.base import Budget, Threshold
from namm_mm.policies.namm import NammPolicy
from namm_mm.policies.probed import Probed
from namm_mm.records import Answer, Sample, Score
from namm_mm.registry.differences import differences
from namm_mm.tasks.long_text import LongTextTask

pytestmark = pytest.mark.numeric

TASK = LongTextTask(words=100, families=("passkey", "cloze"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> TextAdapter:
    folder = text_checkpoints.save(tmp_path_factory.mktemp("model"), max_position_embeddings=2048)
    adapter = TextAdapter(model=folder, dtype="float32")
    adapter.load()
    return adapter


@pytest.fixture(scope="module")
def namm() -> Namm:
    """Statistics that suit the tiny model, so that its candidates evict something."""
    return replace(
        Namm.from_pretrained("provisional"), mean=torch.zeros(17), variance=torch.full((17,), 1e-4)
    )


class Listening:
    """A task that writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def score(self, sample: Sample, answer: Answer) -> Score:
        self.heard.append(answer.text)
        return Score(float(len(answer.text)), "length")


def candidates(namm: Namm, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.3 * torch.randn(count, len(namm.parameters), generator=generator)


@pytest.mark.parametrize("storage", ["shared", "per_head"])
@pytest.mark.parametrize("limit", [None, 90])
def test_candidates_together_give_what_each_gives_alone(
    adapter: TextAdapter, namm: Namm, storage: str, limit: int | None
) -> None:
    prompt = prompts.load(adapter, TASK, "train", 2, 1, 0).all()[0]
    scorer = Likelihood(adapter, Conditions(namm, Threshold(limit), storage))
    vectors = candidates(namm, 3)
    together = scorer.score(prompt, vectors)
    assert len({tuple(kept) for kept in together["kept"]}) > 1, "all candidates forget alike"
    for index, vector in enumerate(vectors):
        policy = NammPolicy(
            replace(namm, parameters=vector), budget=Threshold(limit), state="float32"
        )
        with attach(adapter.backbone, policy, interval=128, storage=storage) as memory:
            answer = adapter.answer(prompt.inputs, memory)
            use = memory.usage()
        mean = answer.log_probabilities[0] / len(prompt.answer)
        assert together["values"][index] == pytest.approx(mean, abs=2e-3)
        expected = [kept / use.seen for kept in use.kept_by_layer]
        assert together["kept"][index] == pytest.approx(expected, abs=1e-4)


def test_candidates_with_sizes_of_a_probe_give_what_each_gives_alone(
    adapter: TextAdapter, namm: Namm
) -> None:
    prompt = prompts.load(adapter, TASK, "train", 2, 1, 0).all()[0]
    budget = Budget(fraction=0.3)
    scorer = Likelihood(adapter, Conditions(namm, budget, "per_head", probed=True))
    equal = Likelihood(adapter, Conditions(namm, budget, "per_head"))
    vectors = candidates(namm, 3)
    assert scorer.key(prompt, vectors) != equal.key(prompt, vectors)
    together = scorer.score(prompt, vectors)
    assert together["values"] != pytest.approx(equal.score(prompt, vectors)["values"], abs=1e-4)
    for index, vector in enumerate(vectors):
        below = NammPolicy(replace(namm, parameters=vector), budget=budget, state="float32")
        policy = Probed(over=below)
        with attach(adapter.backbone, policy, interval=128, storage="per_head") as memory:
            answer = adapter.answer(prompt.inputs, memory)
        mean = answer.log_probabilities[0] / len(prompt.answer)
        assert together["values"][index] == pytest.approx(mean, abs=2e-3)


def test_the_reference_is_the_full_cache(adapter: TextAdapter, namm: Namm) -> None:
    prompt = prompts.load(adapter, TASK, "train", 2, 1, 0).all()[1]
    scorer = Likelihood(adapter, Conditions(namm, Threshold()))
    expected = adapter.answer(prompt.inputs, None).log_probabilities[0] / len(prompt.answer)
    assert scorer.score(prompt)["values"] == pytest.approx([expected], abs=1e-4)
    keeps_all = torch.zeros(1, len(namm.parameters))
    kept = scorer.score(prompt, keeps_all)
    assert kept["values"] == pytest.approx([expected], abs=1e-4)
    assert kept["kept"] == [[1.0, 1.0]]


def test_a_task_score_is_that_of_the_task(adapter: TextAdapter, namm: Namm) -> None:
    prompt = prompts.load(adapter, TASK, "train", 2, 1, 0).all()[0]
    scorer = TaskScore(adapter, Conditions(namm, Threshold()), TASK)
    expected = TASK.score(prompt.inputs.sample, adapter.answer(prompt.inputs, None)).value
    assert scorer.score(prompt)["values"] == [expected]
    found = scorer.score(prompt, torch.zeros(2, len(namm.parameters)))
    assert found["values"] == [expected, expected]
    assert found["kept"] == [[1.0, 1.0]] * 2


@pytest.mark.parametrize("storage", ["shared", "per_head"])
def test_candidates_that_generate_together_say_what_each_says_alone(
    tmp_path: Path, namm: Namm, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = text_checkpoints.save(tmp_path, max_position_embeddings=2048)
    adapter = TextAdapter(model=folder, dtype="float32", answer_by="generate", max_new_tokens=24)
    adapter.load()
    generation: Any = adapter.backbone.generation_config
    prompt = prompts.load(adapter, TASK, "train", 2, 1, 0).all()[0]
    task: Any = Listening()
    length = len(prompt.inputs.token_types)
    interval = next(n for n in range(96, 160, 16) if n - length % n in range(8, 20))
    started = replace(namm, interval=interval)  # an update comes while they speak
    scorer = TaskScore(adapter, Conditions(started, Threshold(90), storage), task)
    vectors = candidates(namm, 6)
    scorer.score(prompt, vectors)
    assert len(set(task.heard)) > 1, "all candidates say the same"
    # From now on some answers end early: at a character in the middle of the first one.
    generation.eos_token_id = CHARACTERS.index(task.heard[0][2])
    together = scorer.score(prompt, vectors)
    alone = [scorer.score(prompt, vector[None]) for vector in vectors]
    first, batch, single = (task.heard[start : start + 6] for start in (0, 6, 12))
    assert batch == single
    assert [len(text) for text in batch] != [len(text) for text in first], "none ended early"
    assert together["kept"] == [one["kept"][0] for one in alone]
    assert together["tokens"] == sum(one["tokens"] for one in alone)
    # Where a model's own settings change greedy answers, each candidate answers by itself.
    generation.no_repeat_ngram_size = 1
    monkeypatch.setattr("namm_mm.evolution.batched_candidates.prefill", None)
    scorer.score(prompt, vectors)
    assert len(task.heard) == 24


def test_a_start_may_see_attention_relative_to_an_equal_share(adapter: TextAdapter) -> None:
    samples = TASK.samples("train", 2, 0)
    plain, relative = (
        make_start(StartSettings(relative=chosen, statistics_clip=None), adapter, samples)
        for chosen in (False, True)
    )
    assert (plain.relative, relative.relative) == (False, True)
    # Among hundreds of tokens an equal share is small, so that relative attention is larger.
    assert float(relative.mean[0]) > 20 * float(plain.mean[0])
    prompt = prompts.load(adapter, TASK, "train", 2, 1, 0).all()[0]
    keys = {
        Likelihood(adapter, Conditions(start, Threshold())).key(prompt, candidates(start, 1))
        for start in (plain, replace(plain, relative=True))
    }
    assert len(keys) == 2


def test_settings_from_before_there_was_a_choice_of_features_are_the_same() -> None:
    plain, relative = (
        reading.from_mapping(compose("evolve", [f"evolution={name}"]))
        for name in ("smollm2_pure", "smollm2_relative")
    )
    changed = differences(plain.as_mapping(), relative.as_mapping())
    assert sorted(line.partition(":")[0] for line in changed) == ["name", "start.relative"]
    assert "relative" not in plain.as_mapping()["start"]


def test_a_key_changes_with_all_that_a_result_depends_on(adapter: TextAdapter, namm: Namm) -> None:
    first, second = prompts.load(adapter, TASK, "train", 2, 1, 0).all()
    vectors = candidates(namm, 2)
    plain = Likelihood(adapter, Conditions(namm, Threshold()))
    other_scorer = replace(namm, scorer="linear", parameters=torch.zeros(26))
    keys = {
        plain.key(first),
        plain.key(first, vectors),
        plain.key(second, vectors),
        plain.key(first, vectors + 1e-6),
        Likelihood(adapter, Conditions(namm, Threshold(64))).key(first, vectors),
        Likelihood(adapter, Conditions(namm, Threshold(), "per_head")).key(first, vectors),
        Likelihood(adapter, Conditions(replace(namm, gamma=0.99), Threshold())).key(first, vectors),
        TaskScore(adapter, Conditions(namm, Threshold()), TASK).key(first, vectors),
        Likelihood(adapter, Conditions(other_scorer, Threshold())).key(first, vectors),
    }
    assert len(keys) == 9
    again = Likelihood(adapter, Conditions(namm, Threshold()))
    assert again.key(first, vectors.clone()) in keys


def test_draws_are_even_over_families_and_the_same_again(adapter: TextAdapter) -> None:
    pool = prompts.load(adapter, TASK, "train", 12, 3, 0)
    seen: list[str] = []
    for generation in range(2):
        drawn = pool.draw(3, generation, "seed")
        assert [p.digest for p in drawn] == [p.digest for p in pool.draw(3, generation, "seed")]
        assert len({p.digest for p in drawn}) == 3
        seen += [p.family for p in drawn]
    assert seen.count("passkey") == seen.count("cloze") == 3
    assert [p.digest for p in pool.draw(3, 0, "seed")] != [
        p.digest for p in pool.draw(3, 2, "seed")
    ]


def test_too_few_prompts_are_refused(adapter: TextAdapter) -> None:
    small = LongTextTask(words=100, families=("passkey", "cloze"), samples_per_family=2)
    with pytest.raises(UsageError, match=r"too few prompts to train on: got '4 prompts'.*the 9"):
        prompts.load(adapter, small, "train", 9, 2, 0)
    with pytest.raises(UsageError, match=r"prompts of the family 'passkey': got '2 prompts'.*3 "):
        prompts.load(adapter, small, "train", None, 6, 0)


OUTCOMES = Outcomes(
    values=torch.tensor([[-1.0, -2.0, -4.0], [-1.0, -1.0, -1.0]], dtype=torch.float64),
    references=torch.tensor([-1.0, -1.0, -2.0], dtype=torch.float64),
    tasks=("a", "a", "b"),
    kept_by_layer=torch.tensor([[0.2, 0.4], [0.6, 0.8]], dtype=torch.float64),
)


def test_fitness_compares_with_the_full_cache_and_counts_tasks_alike() -> None:
    assert Fitness()(OUTCOMES).tolist() == [(-0.5 - 2.0) / 2, 0.5]
    ratio = Fitness("ratio")
    assert ratio(OUTCOMES).tolist() == [(1.5 + 2.0) / 2, 0.75]
    assert ratio.by_task(OUTCOMES)["b"].tolist() == [2.0, 0.5]


def test_the_penalty_counts_only_what_is_kept_beyond_the_free_fraction() -> None:
    free, penalised = Fitness()(OUTCOMES), Fitness(penalty=10.0, free_fraction=0.5)(OUTCOMES)
    assert (free - penalised).tolist() == pytest.approx([0.0, 2.0])


def test_a_loss_is_clipped() -> None:
    assert Fitness(loss_clip=0.5)(OUTCOMES).tolist() == [(-0.25 - 0.5) / 2, 0.5]


def test_a_ratio_to_nothing_is_refused() -> None:
    nothing = replace(OUTCOMES, references=torch.zeros(3, dtype=torch.float64))
    with pytest.raises(RunError, match="the full cache scores nothing on 'a'"):
        Fitness("ratio")(nothing)
