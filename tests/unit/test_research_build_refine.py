"""A NAMM is refined by what a frozen model answers, and a refinement goes on where it was."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_repeated

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.cli import main
from namm_mm.errors import NammError, UsageError
from namm_mm.evolution.prompts import Tokenized
from namm_mm.execution import Serial
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.namm.params import LAYOUTS
from namm_mm.records import Sample
from namm_mm.tasks.long_text import LongTextTask
from research.builders.text.refine import FAMILIES, LOG, BuildRefine, _InMemory
from research.gradients.answer_gradients import Evaluation, Evaluator, Rule
from research.gradients.mixed_task import MixedTask
from research.gradients.refinement import Refinement
from research.gradients.refinement_settings import RefinementSettings
from research.gradients.refinement_state import STATE

RESULTS = Path(__file__).parents[2] / "research" / "results"


def build(**options: Any) -> Path:
    return BuildRefine(**options).build(lambda line: None)


pytestmark = pytest.mark.numeric


@pytest.fixture
def options(tiny: Path) -> dict[str, Any]:
    return {
        "start": str(tiny / "namm.safetensors"),
        "model": str(tiny / "text"),
        "dtype": "float32",
        "families": ["passkey", "cloze"],
        "words": 100,
        "equal_sizes": 0.0,
        "intervals": [],
        "steps": 4,
        "batch_size": 2,
        "validate_every": 2,
        "validation_prompts": 2,
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
    best = made.card["scores"]["full: nats to the full cache, fractions .15 and .35"]
    start = made.card["scores"]["the same of the start"]
    assert start == steps[0]["validation"]
    assert best == max(step.get("validation", -9.0) for step in steps)
    with pytest.raises(
        UsageError, match=r"other settings: got 'learning_rate=0\.1', expected .*=0\.001"
    ):
        build(out=cut, **options, learning_rate=0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objective": "ful"}, "unknown objective: got 'ful'.*Did you mean 'full'"),
        ({"batch_size": 0}, "wrong batch_size: got 0, expected 1 or more"),
        ({"workers": 0}, "wrong workers: got 0, expected 1 or more"),
        ({"text_weight": -1.0}, "wrong text_weight: got -1.0, expected 0 or more"),
        ({"equal_sizes": 1.5}, "wrong equal_sizes: got 1.5, expected a fraction, 0 to 1"),
        ({"intervals": [50]}, "wrong update interval: got 50.*Nearest: 48 or 64"),
        ({"words": [100, 50]}, "wrong words: got 50, expected 100 or more"),
        ({"words": []}, r"wrong words: got \[\], expected one length or more"),
        ({"learning_rate": 0.0}, "wrong learning_rate: got 0.0, expected more than 0"),
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


GENERAL = RefinementSettings(equal_sizes=0.5, intervals=(64, 96, 128))
ANSWERS = RefinementSettings("answer", steps=150, learning_rate=1.5e-3, validation_prompts=25)


@pytest.mark.parametrize(
    ("name", "settings", "words", "step", "best_step"),
    [("general", GENERAL, (100, 200, 300), 61, 40), ("smollm2", ANSWERS, (300,), 104, 100)],
)
def test_a_committed_state_of_an_earlier_version_is_continued(
    name: str,
    settings: RefinementSettings,
    words: tuple[int, ...],
    step: int,
    best_step: int,
    tmp_path: Path,
) -> None:
    tasks = tuple(LongTextTask(families=FAMILIES, words=length) for length in words)
    shutil.copy(RESULTS / f"refinement_{name}" / STATE, tmp_path / STATE)
    model = "smollm2-135m-instruct, bfloat16"
    execution: Serial[Evaluation] = Serial(lambda unit: {}, _InMemory())
    make = functools.partial(Refinement, Namm.from_pretrained("evolved"), MixedTask(tasks))
    run = make(settings, execution, tmp_path, model)
    assert (run.state.step, run.state.best_step) == (step, best_step)
    run._save()
    again = make(settings, execution, tmp_path, model)
    torch.testing.assert_close(again.state.average, run.state.average)
    with pytest.raises(
        UsageError, match=r"other settings: got 'temperature=9\.0', expected .*=0\.3"
    ):
        make(replace(settings, temperature=9.0), execution, tmp_path, model)


def test_an_earlier_name_of_an_option_is_answered_with_the_name_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "refine", f"out={tmp_path}", "even=0.5"]) == 2
    said = capsys.readouterr().err
    assert "renamed option of the builder 'refine': got 'even'" in said
    assert "expected its name now, 'equal_sizes'" in said


def test_a_gradient_does_not_ask_for_more_memory(tiny: Path) -> None:
    """A step along it can improve the answer only by another choice of tokens."""
    adapter, namm, sample = one_prompt(tiny)
    evaluator = Evaluator(Tokenized(adapter), namm)
    found = evaluator(Evaluation.make(sample, namm.parameters, Rule(0.0), gradient=True))
    gradient = LAYOUTS["bam"].split(torch.from_numpy(found["gradient"]))
    assert float(gradient["score_bias"]) == pytest.approx(0.0, abs=1e-5)
    assert float(gradient["score_weight"].abs().max()) > 0
    assert 0.0 < found["kept"] < 1.0
    full = evaluator(Evaluation.make(sample, namm.parameters))
    assert full["kept"] == 1.0
    assert full["gradient"] is None
    assert full["value"] != found["value"]


@pytest.mark.slow
def test_a_refinement_of_many_lengths_intervals_and_sizes_goes_on(
    options: dict[str, Any], tmp_path: Path
) -> None:
    general = {
        **options,
        "steps": 2,
        "words": [100, 130],
        "intervals": [32, 64],
        "equal_sizes": 0.5,
    }
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    made = Namm.from_pretrained(build(out=whole, **general))
    build(out=cut, minutes=0.0, **general)
    again = Namm.from_pretrained(build(out=cut, **general))
    assert_repeated({"NAMM": again.parameters}, {"NAMM": made.parameters})
    first = json.loads((whole / LOG).read_text().splitlines()[0])
    assert {"at 0.15", "at 0.35", "equal at 0.15", "equal at 0.35"} < set(first)
    assert "equal_sizes=0.5 words=[100,130] intervals=[32,64] families" in made.card["made_by"]
    with pytest.raises(UsageError, match=r"other settings: got 'intervals=\[\]'"):
        build(out=cut, **{**general, "intervals": []})


def test_the_size_of_a_head_does_not_change_with_a_step(tiny: Path) -> None:
    """The limit of each head moves with its scores."""
    adapter, namm, sample = one_prompt(tiny)
    evaluator = Evaluator(Tokenized(adapter), namm)
    found = evaluator(
        Evaluation.make(sample, namm.parameters, Rule(fraction=0.3), interval=64, gradient=True)
    )
    gradient = LAYOUTS["bam"].split(torch.from_numpy(found["gradient"]))
    assert float(gradient["score_bias"].abs()) < 1e-5 * float(gradient["score_weight"].abs().max())
    assert found["kept"] == pytest.approx(0.3, abs=0.01)


def test_prompts_shorter_than_an_interval_are_refused(
    options: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    patient = replace(Namm.from_pretrained(tiny / "namm.safetensors"), interval=4096)
    start = save(patient, tmp_path / "patient.safetensors")
    with pytest.raises(UsageError, match=r"too short for an eviction.*Ask for more words"):
        build(out=tmp_path / "run", **{**options, "start": str(start)})


@pytest.mark.parametrize("fraction", [None, 0.3])
def test_a_prompt_shorter_than_an_interval_has_no_gradient(
    tiny: Path, fraction: float | None
) -> None:
    adapter, namm, sample = one_prompt(tiny)
    evaluation = Evaluation.make(
        sample, namm.parameters, Rule(0.0, fraction), interval=4096, gradient=True
    )
    found = Evaluator(Tokenized(adapter), namm)(evaluation)
    assert found["kept"] == 1.0
    assert not found["gradient"].any()
    assert len(found["scores"]) == 0


def test_the_text_weight_counts_the_text_as_the_full_cache_continues_it(tiny: Path) -> None:
    """Beside the answer; with the full cache nothing is lost."""
    adapter, namm, sample = one_prompt(tiny)

    def lost(text_weight: float, objective: str = "full") -> float:
        evaluator = Evaluator(Tokenized(adapter), namm, objective, text_weight)
        ask = functools.partial(Evaluation.make, sample, namm.parameters, interval=64)
        return float(evaluator(ask())["value"] - evaluator(ask(Rule(fraction=0.1)))["value"])

    at_answer, at_both, at_both_twice = lost(0.0), lost(1.0), lost(2.0)
    assert at_answer > 0.0
    assert at_both > at_answer
    assert at_both_twice - at_both == pytest.approx(at_both - at_answer, rel=1e-3)
    assert lost(1.0, "answer") - lost(0.0, "answer") == pytest.approx(at_both - at_answer, rel=1e-3)


def test_a_mixed_task_takes_each_prompt_from_one_of_its_tasks() -> None:
    tasks = tuple(LongTextTask(families=("passkey",), words=words) for words in (100, 200))
    mixed = MixedTask(tasks)
    samples = mixed.samples("train", 12, 3)
    lengths = [len(sample.context.split()) for sample in samples]
    assert {length > 150 for length in lengths} == {True, False}
    assert mixed.samples("train", 5, 3) == samples[:5]
    assert MixedTask(tasks[:1]).samples("train", 5, 3) == tasks[0].samples("train", 5, 3)
    assert mixed.fingerprint() not in {task.fingerprint() for task in tasks}


def test_only_a_bam_can_be_refined(tmp_path: Path) -> None:
    wrong = replace(
        Namm.from_pretrained("provisional"),
        parameters=torch.zeros(LAYOUTS["mlp"].size),
        scorer="mlp",
    )
    with pytest.raises(UsageError, match=r"nothing to refine: got .*kind 'mlp'.*a bam"):
        build(out=tmp_path / "run", start=str(save(wrong, tmp_path / "mlp.safetensors")))
