"""A NAMM is refined by what a frozen model answers, and a refinement goes on where it was."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_repeated

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.errors import NammError, UsageError
from namm_mm.evolution.prompts import Tokenized
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.namm.params import LAYOUTS
from namm_mm.records import Sample
from namm_mm.tasks.long_text import LongTextTask
from research.builders.refine import LOG, build
from research.gradients.mixture import Mixture
from research.gradients.slopes import EVERYTHING, Answers, Question

pytestmark = pytest.mark.numeric


@pytest.fixture
def options(tiny: Path) -> dict[str, Any]:
    return {
        "start": str(tiny / "namm.safetensors"),
        "model": str(tiny / "text"),
        "dtype": "float32",
        "families": ["passkey", "cloze"],
        "words": 100,
        "even": 0.0,
        "intervals": [],
        "steps": 4,
        "batch": 2,
        "check": 2,
        "validation_prompts": 2,
        "say": lambda line: None,
    }


def one_prompt(tiny: Path) -> tuple[TextAdapter, Namm, Sample]:
    """What a question is asked with."""
    adapter = TextAdapter(model=str(tiny / "text"))
    adapter.load()
    (sample,) = LongTextTask(families=("passkey",), words=100).samples("train", 1, 0)
    return adapter, Namm.from_pretrained(tiny / "namm.safetensors"), sample


@pytest.mark.slow
def test_a_refinement_goes_on_and_gives_what_it_would_have_given(
    options: dict[str, Any], tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    made = Namm.from_pretrained(build(out=whole, **options))
    build(out=cut, minutes=0.0, **options)  # one step
    assert len((cut / LOG).read_text().splitlines()) == 2  # the start is measured, too
    again = Namm.from_pretrained(build(out=cut, **options))
    assert_repeated({"NAMM": again.parameters}, {"NAMM": made.parameters})
    assert (cut / LOG).read_text() == (whole / LOG).read_text()
    steps = [json.loads(line) for line in (whole / LOG).read_text().splitlines()]
    assert [step["step"] for step in steps] == [0, 1, 2, 3, 4]
    assert ["validation" in step for step in steps] == [True, False, True, False, True]
    best = made.card["scores"]["full: nats to the full cache, sizes .15 and .35"]
    start = made.card["scores"]["the same of the start"]
    assert start == steps[0]["validation"]
    assert best == max(step.get("validation", -9.0) for step in steps)
    with pytest.raises(UsageError, match=r"other settings: got 'rate=0\.1', expected rate=0\.001"):
        build(out=cut, **options, rate=0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objective": "ful"}, "unknown objective: got 'ful'.*Did you mean 'full'"),
        ({"batch": 0}, "wrong batch: got 0, expected 1 or more"),
        ({"workers": 0}, "wrong workers: got 0, expected 1 or more"),
        ({"everywhere": -1.0}, "wrong everywhere: got -1.0, expected 0 or more"),
        ({"even": 1.5}, "wrong even: got 1.5, expected a part, 0 to 1"),
        ({"intervals": [50]}, "wrong update interval: got 50.*Nearest: 48 or 64"),
        ({"words": [100, 50]}, "wrong words: got 50, expected 100 or more"),
        ({"words": []}, r"wrong words: got \[\], expected one length or more"),
        ({"rate": 0.0}, "wrong rate: got 0.0, expected more than 0"),
        ({"families": ["passke"]}, "Did you mean 'passkey'"),
        ({"start": "evolve"}, "Did you mean 'evolved'"),
    ],
)
def test_what_cannot_be_refined_is_said_before_a_model_loads(
    wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(NammError, match=said):
        build(out=tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_slope_does_not_ask_for_more_memory(tiny: Path) -> None:
    """A step along it leaves the answer no other way to gain than by another choice of tokens."""
    adapter, namm, sample = one_prompt(tiny)
    answers = Answers(Tokenized(adapter), namm)
    found = answers(Question.make(sample, namm.parameters, 0.0, slopes=True))
    slope = LAYOUTS["bam"].split(torch.from_numpy(found["slope"]))
    assert float(slope["score_bias"]) == pytest.approx(0.0, abs=1e-5)
    assert float(slope["score_weight"].abs().max()) > 0
    assert 0.0 < found["held"] < 1.0
    full = answers(Question.make(sample, namm.parameters, EVERYTHING))
    assert full["held"] == 1.0
    assert full["slope"] is None
    assert full["value"] != found["value"]


@pytest.mark.slow
def test_a_refinement_of_many_lengths_intervals_and_sizes_goes_on(
    options: dict[str, Any], tmp_path: Path
) -> None:
    general = {**options, "steps": 2, "words": [100, 130], "intervals": [32, 64], "even": 0.5}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    made = Namm.from_pretrained(build(out=whole, **general))
    build(out=cut, minutes=0.0, **general)
    again = Namm.from_pretrained(build(out=cut, **general))
    assert_repeated({"NAMM": again.parameters}, {"NAMM": made.parameters})
    first = json.loads((whole / LOG).read_text().splitlines()[0])
    assert {"at 0.15", "at 0.35", "even at 0.15", "even at 0.35"} < set(first)
    assert "even=0.5 words=[100,130] intervals=[32,64] families" in made.card["made_by"]
    with pytest.raises(UsageError, match=r"other settings: got 'intervals=\[\]'"):
        build(out=cut, **{**general, "intervals": []})


def test_a_size_in_every_head_does_not_change_with_what_is_learned(tiny: Path) -> None:
    """The limit of each head moves along: the slope sees other choices, not more memory."""
    adapter, namm, sample = one_prompt(tiny)
    answers = Answers(Tokenized(adapter), namm)
    found = answers(Question.make(sample, namm.parameters, size=0.3, interval=64, slopes=True))
    slope = LAYOUTS["bam"].split(torch.from_numpy(found["slope"]))
    assert float(slope["score_bias"].abs()) < 1e-5 * float(slope["score_weight"].abs().max())
    assert found["held"] == pytest.approx(0.3, abs=0.01)


def test_prompts_that_are_all_shorter_than_an_interval_cannot_be_learned_from(
    options: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    patient = replace(Namm.from_pretrained(tiny / "namm.safetensors"), interval=4096)
    start = save(patient, tmp_path / "patient.safetensors")
    with pytest.raises(UsageError, match=r"too short to forget anything.*Ask for more words"):
        build(out=tmp_path / "run", **{**options, "start": str(start)})


@pytest.mark.parametrize("size", [None, 0.3])
def test_a_prompt_shorter_than_an_interval_says_nothing(tiny: Path, size: float | None) -> None:
    adapter, namm, sample = one_prompt(tiny)
    question = Question.make(sample, namm.parameters, 0.0, size=size, interval=4096, slopes=True)
    found = Answers(Tokenized(adapter), namm)(question)
    assert found["held"] == 1.0
    assert not found["slope"].any()
    assert len(found["scores"]) == 0


def test_everywhere_counts_what_the_full_cache_says_in_the_text(tiny: Path) -> None:
    """Beside the answer; with everything held there is nothing to lose by it."""
    adapter, namm, sample = one_prompt(tiny)

    def lost(everywhere: float, objective: str = "full") -> float:
        answers = Answers(Tokenized(adapter), namm, objective, everywhere)
        ask = functools.partial(Question.make, sample, namm.parameters, interval=64)
        return float(answers(ask(EVERYTHING))["value"] - answers(ask(size=0.1))["value"])

    at_answer, at_both, at_both_twice = lost(0.0), lost(1.0), lost(2.0)
    assert at_answer > 0.0
    assert at_both > at_answer
    assert at_both_twice - at_both == pytest.approx(at_both - at_answer, rel=1e-3)
    assert lost(1.0, "answer") - lost(0.0, "answer") == pytest.approx(at_both - at_answer, rel=1e-3)


def test_a_mixture_takes_each_prompt_from_one_of_its_tasks() -> None:
    tasks = tuple(LongTextTask(families=("passkey",), words=words) for words in (100, 200))
    mixture = Mixture(tasks)
    samples = mixture.samples("train", 12, 3)
    lengths = [len(sample.context.split()) for sample in samples]
    assert {length > 150 for length in lengths} == {True, False}
    assert mixture.samples("train", 5, 3) == samples[:5]
    assert Mixture(tasks[:1]).samples("train", 5, 3) == tasks[0].samples("train", 5, 3)
    assert mixture.fingerprint() not in {task.fingerprint() for task in tasks}


def test_only_a_bam_can_be_refined(tmp_path: Path) -> None:
    bam = Namm.from_pretrained("provisional")
    wrong = replace(bam, parameters=torch.zeros(LAYOUTS["mlp"].size), scorer="mlp")
    with pytest.raises(UsageError, match=r"nothing to refine: got .*kind 'mlp'.*a bam"):
        build(out=tmp_path / "run", start=str(save(wrong, tmp_path / "mlp.safetensors")))
