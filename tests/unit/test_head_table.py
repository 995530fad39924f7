"""``heads:FILE``: every head has its part of a table, made by what a policy kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.cli import main
from namm_mm.errors import UsageError
from namm_mm.memory import attach
from namm_mm.policies import Budget, create
from namm_mm.policies.head_table import HeadTable, load_table
from namm_mm.testing.tiny import tiny_llama, tiny_tokens
from research.builders.text.head_table import head_parts

TABLE = HeadTable(((0.5, 0.1), (0.25, 1.0)), {"model": "tiny"})


@pytest.mark.parametrize("name", ["random", "recency", "h2o"])
def test_every_head_holds_its_part_of_what_was_seen(name: str, tmp_path: Path) -> None:
    policy = create(name, budget=f"heads:{TABLE.save(tmp_path / 'table.json')}")
    assert policy.storage == "per_head"
    assert policy.selection.describe() == "heads:table"
    model = tiny_llama()
    with torch.no_grad(), attach(model, policy, interval=40) as memory:
        model(tiny_tokens(2, 160))
    assert memory.trace().sizes == (
        ((20, 4), (10, 40)),
        ((40, 8), (20, 80)),
        ((60, 12), (30, 120)),
        ((80, 16), (40, 160)),
    )
    with (
        torch.no_grad(),
        attach(model, policy, interval=40, storage="shared"),
        pytest.raises(UsageError, match="storage=per_head"),
    ):
        model(tiny_tokens(1, 160))


def test_the_builder_measures_what_a_policy_kept() -> None:
    policy = create("keydiff", budget="pool:0.4")
    model: Any = tiny_llama()
    prompts = [{"input_ids": tiny_tokens(1, 150, seed=seed)} for seed in range(3)]
    parts = head_parts(model, prompts, policy, interval=64)
    found = []
    for prompt in prompts:
        with torch.no_grad(), attach(model, policy, interval=64) as memory:
            model(**prompt)
        found.append(torch.tensor(memory.trace().sizes[1], dtype=torch.float64) / 128)
    expected = torch.stack(found).mean(0)
    torch.testing.assert_close(
        torch.tensor(parts, dtype=torch.float64), expected, atol=1e-4, rtol=0
    )
    assert expected.mean() == pytest.approx(0.4, abs=0.01)
    with pytest.raises(UsageError, match="interval=32"):
        head_parts(model, prompts, policy, interval=512)


def test_a_table_of_another_model_is_refused_before_the_first_token() -> None:
    for table in (HeadTable(((0.5,), (0.5,))), HeadTable(((0.5, 0.5),) * 3)):
        policy = create("random", budget=0.5)
        with (
            pytest.raises(UsageError, match="made on another model', expected 2 layers"),
            attach(tiny_llama(), replace(policy, budget=Budget(table=table))),
        ):
            pass


def test_a_run_with_a_table_of_another_model_starts_no_model(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny)
    words = "evaluate adapter.model=nowhere/at-all policy=random budget=heads:smollm2"
    assert main([*words.split(), "storage=per_head"]) == 2
    said = capsys.readouterr().err
    assert "made on smollm2-135m-instruct" in said
    assert "expected one made on nowhere/at-all" in said
    assert main(words.replace("heads:smollm2", "heads:smolm2").split()) == 2
    assert "no such table of heads" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", '{"parts": [[0.5, 2]], "card": {}}', '{"card": {}}', "[]"])
def test_a_file_that_is_no_table_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="table of heads"):
        load_table(str(file))


def test_the_bundled_table_is_of_the_bundled_model() -> None:
    table = load_table("smollm2")
    assert (len(table.parts), len(table.parts[0])) == (30, 3)
    assert table.card["prompts"] == 20
    assert 0.3 < float(table.card["mean"]) < 0.7
