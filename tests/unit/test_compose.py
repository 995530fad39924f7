"""Words of the command line become a configuration: groups, cells, policies, budgets, old names."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from namm_mm.cli import main
from namm_mm.commands import moved
from namm_mm.commands.compose import compose, groups
from namm_mm.errors import UsageError
from namm_mm.experiment.reading import from_evaluation, from_mapping
from namm_mm.experiment.settings import CellSettings

RESEARCH = Path(__file__).parents[2] / "research" / "configs"


def test_one_policy_runs_beside_what_its_budget_is_matched_to() -> None:
    assert policies_of(cells_of("policy=h2o")["video"]) == [
        ("namm", "pool:0.5"),
        ("h2o", "match:namm"),
    ]
    assert policies_of(cells_of("policy=h2o", "budget=tokens:9")["video"]) == [("h2o", "tokens:9")]
    assert policies_of(cells_of("policy=full")["video"]) == [("full", "own")]
    assert from_mapping(compose("transfer", ["seed=3"])).seeds == (3,)


def test_groups_and_options_of_a_users_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nname: mine\ncells: {a: {adapter: text, task: long_text}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    assert "mine" in groups(tmp_path)["experiment"]
    assert "mine" not in groups()["experiment"]
    found = compose("transfer", ["experiment=mine", "output=here"], tmp_path)
    assert (found["name"], found["output"]) == ("mine", "here")
    assert found["checkpoint"] == "general"


@pytest.mark.parametrize("group", ["adapter", "task", "policy"])
def test_every_shipped_option_names_something_registered_with_known_options(group: str) -> None:
    from importlib.resources import files

    from namm_mm.adapters import ADAPTERS
    from namm_mm.policies import POLICIES
    from namm_mm.registry.registry import Registry, build
    from namm_mm.tasks import TASKS

    registries: dict[str, Registry[Any]] = {"adapter": ADAPTERS, "task": TASKS, "policy": POLICIES}
    for option in groups()[group]:
        text = (files("namm_mm.configs") / group / f"{option}.yaml").read_text(encoding="utf-8")
        options = yaml.safe_load(text)
        if option not in ("video_folder", "image_folder"):  # need a folder of the user's
            build(registries[group], options.pop("name"), options)


def test_the_mode_of_wandb_has_a_long_form_and_a_short_one() -> None:
    for word in ("tracker.wandb.mode=disabled", "wandb=disabled"):
        config = compose("transfer", [word])
        assert config["wandb"] == "disabled"
        assert "tracker" not in config
    with pytest.raises(UsageError, match=r"tracker\.wandb\.mode=MODE, or wandb=MODE"):
        compose("transfer", ["tracker.wandb.project=mine"])


def cells_of(*words: str) -> dict[str, CellSettings]:
    """The cells of `namm-mm transfer WORDS`."""
    return {cell.name: cell for cell in from_mapping(compose("transfer", words)).cells}


def policies_of(cell: CellSettings) -> list[tuple[str, str]]:
    return [(policy.name, policy.budget) for policy in cell.policies]


@pytest.mark.parametrize(
    "folder", ["/data/R&D (old)/run", "it's", "a b", "C:\\runs\\1", "50%!", "é"]
)
def test_any_path_can_be_a_folder(folder: str) -> None:
    assert compose("transfer", ["experiment=pocket", f"folder={folder}"], None)["folder"] == folder


def test_chosen_cells_run_as_if_the_others_were_not_there() -> None:
    chosen = from_mapping(compose("transfer", ["cells=[text,control]"]))
    without = from_mapping(compose("transfer", ["~cells.video"]))
    assert [cell.name for cell in chosen.cells] == ["text", "control"]
    assert chosen == without
    assert chosen.config_hash == without.config_hash


def test_policies_of_the_command_line_reach_every_cell() -> None:
    cells = cells_of("policies=[full,namm,recency]", "budgets=[match:namm,'tokens:32']")
    budgets = {"text": "own", "video": "pool:0.5", "control": "threshold:60"}
    for name, budget in budgets.items():
        assert policies_of(cells[name]) == [
            ("full", "own"),
            ("namm", budget),  # as the experiment has it in this cell
            ("recency", "match:namm"),
            ("recency", "tokens:32"),
        ]


def test_a_policy_given_as_a_mapping_is_taken_as_it_is() -> None:
    cells = cells_of("policies=[{name: namm}, {name: h2o, budget: 'tokens:9'}]")
    for cell in cells.values():
        assert policies_of(cell) == [("namm", "own"), ("h2o", "tokens:9")]
        assert "recents" not in cell.policies[1].options


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["limit=200"], "limit", 200),
        (["limit=null"], "limit", None),
        (["interval=32"], "interval", 32),
        (["storage=shared", "~cells.video"], "storage", "shared"),
        (["protocol=prune_after_prefill"], "protocol", "prune_after_prefill"),
        (["split=validation"], "split", "validation"),
    ],
)
def test_a_key_of_the_command_line_reaches_every_cell(
    words: list[str], field: str, value: Any
) -> None:
    assert {getattr(cell, field) for cell in cells_of(*words).values()} == {value}


def test_a_key_of_one_cell_comes_before_that_of_all() -> None:
    cells = cells_of("limit=3", "cells.text.limit=7", "cells.video.policies=[full]")
    assert [cell.limit for cell in cells.values()] == [7, 3, 3]
    assert policies_of(cells["video"]) == [("full", "own")]
    assert len(cells["text"].policies) == 8


def test_an_adapter_and_a_task_make_a_cell() -> None:
    words = ["adapter=text", "task=long_text", "task.words=150", "adapter.chat=true", "limit=3"]
    settings = from_mapping(compose("transfer", [*words, "policies=[full,namm]"]))
    (cell,) = settings.cells
    assert (settings.name, cell.name, cell.limit) == ("long_text", "long_text", 3)
    assert (cell.adapter.name, cell.adapter.options["chat"]) == ("text", True)
    assert (cell.task.name, cell.task.options["words"]) == ("long_text", 150)
    assert policies_of(cell) == [("full", "own"), ("namm", "own")]


def test_what_does_not_reach_a_policy_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "budgets=['tokens:32']", "--show"]) == 0
    told = capsys.readouterr().err
    assert (
        "budgets=['tokens:32'] holds for probed, h2o, attention_max, l2, recency and random" in told
    )
    assert "namm (its own budget pool:0.5) in video" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["policies=[full,namm]", "budgets=['tokens:32']"], "no policy takes it"),
        (["policies=[h2o]", "budgets=['tokens:32']", "checkpoint=refined"], "no policy takes it"),
        (["cells=[text]", "cells.video.limit=3"], "the cell 'video' is not chosen"),
        (["limit=3", "limit=4"], "'limit' is set twice"),
        (["hydra.run.dir=x"], "settings of Hydra itself have no effect"),
        (["--json"], "expected --plan too"),
    ],
)
def test_what_has_no_effect_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transfer", *words, "--show"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("paper_rl/hopper_expert", "experiment=paper_rl 'cells=[hopper_expert]'"),
        ("paper_text/longbench_llama3_70b", "experiment=paper_text_70b"),
        ("scale/video_llava_7b", "experiment=scale_video 'cells=[video_llava_7b_longvideobench,"),
        ("pocket_full", "--configs research/configs experiment=pocket_full"),
    ],
)
def test_an_old_name_of_an_experiment_names_the_new_command(old: str, new: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose("transfer", [f"experiment={old}"])
    assert new in str(caught.value)


@pytest.mark.slow
def test_every_new_command_for_an_old_name_composes() -> None:
    for command in moved.SCALE.values():
        assert compose("transfer", shlex.split(command))["cells"]


@pytest.mark.parametrize("name", moved.RESEARCH)
def test_experiments_of_record_run_in_a_clone(name: str) -> None:
    assert from_mapping(compose("transfer", [f"experiment={name}"], RESEARCH)).name == name


@pytest.mark.parametrize("policy", ["namm", "h2o", "recency", "attention_max"])
def test_a_budget_of_an_evaluation_holds_for_every_policy(policy: str) -> None:
    config = compose("evaluate", [f"policy={policy}", "budget=fraction:0.3"])
    assert policies_of(from_evaluation(config).cells[0]) == [(policy, "fraction:0.3")]


def test_interval_and_storage_of_an_evaluation_are_those_of_the_namm() -> None:
    cell = from_evaluation(compose("evaluate", [])).cells[0]
    assert (cell.interval, cell.storage) == (128, "per_head")
    cell = from_evaluation(compose("evaluate", ["interval=64", "storage=shared"])).cells[0]
    assert (cell.interval, cell.storage) == (64, "shared")
    cell = from_evaluation(compose("evaluate", ["policy=h2o"])).cells[0]
    assert (cell.interval, cell.storage) == (512, "shared")
