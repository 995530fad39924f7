"""Settings: everything is checked at once, words become budgets, and the hash means the numbers."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
import torch
import yaml

from namm_mm.commands.named_files import named_files
from namm_mm.errors import UsageError
from namm_mm.experiment.notes import policy_notes, threshold_notes
from namm_mm.experiment.reading import from_evaluation, from_mapping
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.policies.base import Budget, KeepAll, Threshold
from namm_mm.policies.budgets import parse
from namm_mm.policies.preferences import INTERVAL
from namm_mm.records import Trace

CELL = {"adapter": {"name": "text", "model": "owner/model"}, "task": "long_text"}


def make(**changes: Any) -> ExperimentSettings:
    plain: dict[str, Any] = {
        "name": "try",
        "policies": ["full", "recency"],
        "budgets": ["tokens:64"],
        "cells": {"text": CELL},
    }
    return from_mapping(plain | changes)


def test_all_problems_are_told_in_one_message() -> None:
    with pytest.raises(UsageError) as caught:
        make(
            seeds=[-1],
            storage="both",
            policies=["full", "h3o"],
            cells={"a": {**CELL, "interval": 0, "taks": 1}, "b": {"adapter": "txt"}},
        )
    said = str(caught.value)
    assert said.startswith("7 problems")
    for words in (
        "seeds: got [-1]",
        "storage: got 'both'",
        "Did you mean 'h2o'",
        "a.interval: got 0",
    ):
        assert words in said
    for words in ("Did you mean 'task'", "b.task: got None", "Did you mean 'text'"):
        assert words in said


def test_every_policy_runs_under_every_budget_but_those_with_a_rule_of_their_own() -> None:
    cell = make(budgets=["tokens:64", "fraction:0.5"]).cells[0]
    runs = [(policy.name, policy.budget) for policy in cell.policies]
    assert runs == [("full", "own"), ("recency", "tokens:64"), ("recency", "fraction:0.5")]


def test_no_bundled_policy_has_a_budget_that_keeps_out_another() -> None:
    for name, file in named_files(files("namm_mm.configs") / "policy"):
        policy = {"budget": None, **yaml.safe_load(file.read_text(encoding="utf-8"))}
        assert policy["budget"] is None, f"`namm-mm evaluate policy={name} budget=0.4` is refused"


def test_a_cell_overrides_the_experiment_and_the_smaller_limit_counts() -> None:
    settings = make(
        limit=5,
        storage="per_head",
        cells={"a": {**CELL, "limit": 9, "storage": "shared"}, "b": {**CELL, "limit": 2}},
    )
    assert [cell.limit for cell in settings.cells] == [5, 2]
    assert [cell.storage for cell in settings.cells] == ["shared", "per_head"]


def test_one_namm_serves_all_cells_unless_a_policy_names_its_own() -> None:
    settings = make(
        policies=["namm", {"name": "namm", "budget": "tokens:9"}], checkpoint="provisional"
    )
    for policy in settings.cells[0].policies:
        assert policy.options == {"checkpoint": "provisional"}


def test_settings_survive_their_plain_form() -> None:
    settings = make(seeds=[0, 3], cells={"text": {**CELL, "interval": 96, "split": "validation"}})
    assert from_mapping(settings.as_mapping()) == settings


def test_the_hash_is_of_what_a_number_depends_on() -> None:
    first = make().config_hash
    assert make(output="elsewhere", wandb="disabled").config_hash == first
    assert make(seeds=[1]).config_hash != first
    assert make(cells={"text": {**CELL, "interval": 64}}).config_hash != first


def test_an_evaluation_is_an_experiment_of_one_cell() -> None:
    settings = from_evaluation(
        {**CELL, "policy": {"name": "l2"}, "budget": "fraction:0.25", "interval": 32, "limit": 4}
    )
    (cell,) = settings.cells
    assert (settings.name, cell.name, cell.interval, cell.limit) == ("evaluate", "long_text", 32, 4)
    assert [(p.name, p.budget) for p in cell.policies] == [("l2", "fraction:0.25")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without CUDA can it be absent")
def test_the_checkpoint_of_an_evaluation_is_the_one_that_was_given() -> None:
    data = {
        "adapter": "text",
        "task": "long_text",
        "policy": {"name": "namm", "checkpoint": "provisional"},
        "checkpoint": "mine.safetensors",
    }
    with pytest.raises(UsageError, match=r"mine\.safetensors"):
        from_evaluation(data)
    with pytest.raises(UsageError, match="unknown option of the policy 'h2o'"):
        from_evaluation({**data, "policy": {"name": "h2o"}, "budget": "tokens:9"})


def test_cuda_that_is_absent_is_told_before_anything_loads() -> None:
    with pytest.raises(UsageError, match=r"cells\.text\.adapter\.device: CUDA is not available"):
        make(cells={"text": {**CELL, "adapter": {**CELL["adapter"], "device": "cuda"}}})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("words", "selection"),
    [
        ("full", KeepAll()),
        ("threshold", Threshold()),
        ("threshold:512", Threshold(512)),
        ("tokens:64", Budget(tokens=64)),
        ("fraction:0.25", Budget(fraction=0.25)),
        ("pool:0.25", Budget(fraction=0.25, pooled=True)),
        ("pool:0.25:60", Budget(fraction=0.25, pooled=True, least=60)),
        ("fraction:0.5:8", Budget(fraction=0.5, least=8)),
    ],
)
def test_words_name_a_budget_and_a_budget_says_its_words(words: str, selection: Any) -> None:
    assert parse(words) == selection
    assert parse(words).describe() == words


def test_a_match_follows_the_trace_of_its_run() -> None:
    traces = {"namm": (Trace((((3, 3),),)),)}
    found = parse("match:namm", traces)
    assert found == Budget(trace=traces["namm"], matched="match:namm")
    assert found.describe() == "match:namm"


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("match_heads:namm", ((9, 2), (4, 4))),
        ("match:namm", ((6, 5), (4, 4))),
        ("match_total:namm", ((5, 5), (5, 4))),
    ],
)
def test_a_match_holds_the_same_total_however_it_is_spread(words: str, sizes: Any) -> None:
    found: Any = parse(words, {"namm": (Trace((((9, 2), (4, 4)),)),)})
    assert found.trace_of(0).sizes == (sizes,)


@pytest.mark.parametrize(
    "words", ["", "tokens:", "tokens:x", "fraction:", "match:", "64", "full:1"]
)
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match="unknown budget"):
        parse(words)


def test_a_match_without_a_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no run to match.*Did you mean 'namm'"):
        parse("match:nam", {"namm": ()})


def test_interval_and_storage_are_those_of_the_first_policy_that_asks_for_some() -> None:
    def chosen(*policies: Any, **cell: Any) -> tuple[int, str]:
        found = make(policies=list(policies), cells={"text": {**CELL, **cell}}).cells[0]
        return found.interval, found.storage

    assert chosen("full", "namm", "recency") == (128, "per_head")
    assert chosen("full", "recency") == (INTERVAL, "shared")
    assert chosen("namm", interval=64) == (64, "per_head")
    assert chosen("namm", storage="shared") == (128, "shared")
    assert chosen({"name": "recency", "budget": "pool:0.5"}) == (INTERVAL, "per_head")


def test_a_threshold_that_runs_where_it_was_not_set_is_told_once() -> None:
    cells = {
        "at_home": CELL,
        "away": {**CELL, "interval": 64, "storage": "shared"},
        "sized": {**CELL, "interval": 64, "policies": [{"name": "namm", "budget": "tokens:9"}]},
    }
    (note,) = threshold_notes(make(policies=["full", "namm"], cells=cells))
    assert note.startswith("in away: the threshold of namm was set for interval 128 and storage")
    assert "Leave out interval and storage, or give the policy a budget" in note


def test_what_a_row_of_a_table_cannot_say_is_a_note() -> None:
    """A bound, and a policy that keeps some layers whole; a match names the size of each layer."""
    found = [*policy_notes(make(policies=["full", "kvzip", "l2"], budgets=["fraction:0.5"]))]
    assert [note.split(" ", 2)[0] for note in found] == ["kvzip", "l2"]
    assert "an upper bound" in found[0]
    assert "first 2 layers" in found[1]
    matched = {"name": "l2", "budget": "match:namm"}
    assert not [*policy_notes(make(policies=["full", "namm", matched, "l2_all", "h2o"]))]


@pytest.mark.parametrize("policy", ["adakv", {"name": "adakv", "budget": "fraction:0.5"}, "kvzip"])
def test_heads_that_share_a_budget_need_storage_per_head(policy: Any) -> None:
    with pytest.raises(UsageError, match="expected storage per_head"):
        make(policies=["full", policy], storage="shared")
    assert make(policies=["full", policy]).cells[0].storage == "per_head"


def test_a_budget_beside_that_of_the_policy_is_refused_in_an_evaluation() -> None:
    policy = {"name": "h2o", "budget": "tokens:9"}
    with pytest.raises(UsageError, match=r"one budget: policy\.budget is given, too"):
        from_evaluation({**CELL, "policy": policy, "budget": "tokens:8"})
    with pytest.raises(UsageError, match="unknown key in the configuration: got 'cells'"):
        from_evaluation({**CELL, "policy": policy, "cells": ["text"]})


@pytest.mark.parametrize(
    ("adapter", "task", "said"),
    [
        ("text", "video_qa", "samples of the task 'video_qa' hold video, which the adapter 'text'"),
        ("text", "video_mme", "hold video, which the adapter 'text' does not read"),
        ("llava_video", "long_text", "'llava_video' needs video in every sample, and the task"),
        ("text", "offline_rl", "expected two of one shape"),
    ],
)
def test_an_adapter_is_refused_for_samples_that_it_cannot_read(
    adapter: str, task: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        make(cells={"one": {"adapter": {"name": adapter, "model": "owner/model"}, "task": task}})


def test_a_budget_must_mean_something_for_its_policy() -> None:
    def refused(name: str, budget: str) -> str:
        with pytest.raises(UsageError) as caught:
            make(policies=[{"name": name, "budget": budget}])
        return str(caught.value)

    assert "this policy keeps every token: got 'tokens:9'" in refused("full", "tokens:9")
    assert "the scores of this policy have no threshold" in refused("h2o", "threshold:60")
    assert "needs a budget with a size: got KeepAll" in refused("adakv", "full")
    assert make(policies=[{"name": "full", "budget": "full"}])
    assert make(policies=[{"name": "namm", "budget": "threshold:60"}])


def test_an_option_of_an_earlier_version_names_the_new_way() -> None:
    adapter = {"name": "decision_transformer", "history": "window", "window": 20}
    with pytest.raises(UsageError) as caught:
        make(policies=["full"], cells={"control": {"adapter": adapter, "task": "offline_rl"}})
    said = str(caught.value)
    assert "control.adapter.history: got 'window', expected the policy `window`" in said
    assert "control.adapter.window: got 20, expected the policy `window`" in said
