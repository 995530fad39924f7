"""`examples/sweep.yaml` is a sweep that W&B reads, and its command is one that `namm-mm` runs."""

from __future__ import annotations

import dataclasses
import itertools
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic_records import PROVENANCE, make_records, with_histories
from wandb_reader import read_finished_run

from namm_mm.cli import main
from namm_mm.commands.compose import compose
from namm_mm.experiment.reading import from_evaluation
from namm_mm.results import tables
from namm_mm.runs import RunInfo
from namm_mm.tracking import open_run

WANDB = import_module("wandb.sdk.launch.sweeps.utils")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    text = (ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))  # as `wandb sweep` reads it


def commands(sweep: dict[str, Any]) -> list[list[str]]:
    """The command lines that agents run, filled in by W&B's own code; none for other macros."""
    parameters = sweep["parameters"]
    choices = [p.get("values", [p.get("value")]) for p in parameters.values()]
    found = []
    for values in itertools.product(*choices):
        args = {name: {"value": v} for name, v in zip(parameters, values, strict=True)}
        filled = WANDB.create_sweep_command_args({"args": args})
        words: list[str] = []
        for word in WANDB.create_sweep_command(list(sweep["command"])):
            if word == "${program}":
                words.append(sweep["program"])
            elif word == "${args_no_hyphens}":
                words += filled["args_no_hyphens"]
            else:
                assert "${" not in word
                words.append(word)
        found.append(words)
    return found


def test_every_run_of_the_sweep_is_an_evaluation_that_can_be(sweep: dict[str, Any]) -> None:
    assert {"program", "method", "metric", "parameters", "command"} <= set(sweep)
    assert sweep["method"] in ("grid", "random", "bayes")
    hashes = set()
    for program, verb, *words in commands(sweep):
        assert (program, verb) == ("namm-mm", "evaluate")
        hashes.add(from_evaluation(compose("evaluate", words)).config_hash)
    assert len(hashes) == len(commands(sweep)) == 3 * 2 * 2


def test_an_agents_command_runs_under_the_id_that_the_agent_gives(
    sweep: dict[str, Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verb, *words = commands(sweep)[2]
    assert "wandb=online" in words
    words = [{"wandb=online": "wandb=offline", "limit=15": "limit=1"}.get(w, w) for w in words]
    small = [f"adapter.model={tiny / 'text'}", "adapter.dtype=float32", "task.words=100"]
    monkeypatch.setenv("WANDB_RUN_ID", "agent123")
    assert main([verb, *words, *small, "task.families=[passkey]", f"folder={tmp_path}"]) == 0
    (wandb_folder,) = (tmp_path / "wandb").glob("offline-run-*-agent123")
    assert sweep["metric"]["name"] in read_finished_run(wandb_folder).summary


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All keys of an offline run with every kind of record, and of one of a single method."""
    keys: set[str] = set()
    every = make_records(3)
    every[0] = dataclasses.replace(every[0], value=None, error="the file ends too early")
    single = [r for r in every if r.task == "long_text" and r.policy == "h2o"]
    for number, records in enumerate((every, single)):
        folder = tmp_path_factory.mktemp(f"run{number}")
        told = with_histories(records, folder, ("s000",))
        with open_run(
            folder, RunInfo("pocket", "eval", {}, PROVENANCE), wandb_mode="offline"
        ) as tracker:
            for record in told:
                tracker.record(record)
        (wandb_folder,) = (folder / "wandb").glob("offline-run-*")
        found = read_finished_run(wandb_folder)
        keys |= {key for row in found.history for key in row} | set(found.summary)
    return keys


def named_keys() -> list[str]:
    """The keys in the last column of the page's first table, and in its sentences."""
    page = (ROOT / "docs" / "how-to" / "rebuild-the-panels.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    cells = [row[3] for row in rows if len(row) == 5]
    sentences = re.findall(r"`((?:evaluate/\w+|\w+/left_out))`", page)
    return [
        *dict.fromkeys([key for cell in cells for key in re.findall(r"`(.+?)`", cell)]),
        *sentences,
    ]


@pytest.mark.parametrize("key", dict.fromkeys(named_keys()))
def test_a_key_that_the_page_names_is_logged(key: str, logged: set[str]) -> None:
    pattern = re.escape(key).replace("METRIC", "[^/]+").replace("TASK", "[^/]+")
    pattern = pattern.replace("WHO", "[^/]+/[^/]+")
    assert any(re.match(pattern + "($|/|_type)", name) for name in logged), sorted(logged)[:400]


def test_a_long_table_is_thinned_without_leaning_to_a_policy() -> None:
    rows: list[list[Any]] = [[n, n % 7] for n in range(7 * tables.ROWS)]
    columns, shown = tables.thinned((["sample", "policy"], rows))
    assert columns == ["sample", "policy"]
    assert len(shown) == tables.ROWS
    assert shown == sorted(shown)
    counts = [sum(policy == number for _, policy in shown) for number in range(7)]
    assert min(counts) > tables.ROWS / 7 * 0.8
    assert tables.thinned((columns, rows[:5])) == (columns, rows[:5])
