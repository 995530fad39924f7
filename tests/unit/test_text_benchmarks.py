"""InfiniteBench and ChouBun: read and asked as published, judged by the authors' rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import text_benchmark_files as files

from namm_mm.errors import RunError, UsageError
from namm_mm.records import Answer, Sample
from namm_mm.tasks.choubun import ChouBunTask
from namm_mm.tasks.infinitebench import InfiniteBenchTask
from namm_mm.tasks.infinitebench.task import TASKS
from namm_mm.tasks.text_benchmarks.metrics import rouge_l_sum
from namm_mm.testing import check_task


@pytest.fixture
def bench(tmp_path: Path) -> InfiniteBenchTask:
    return InfiniteBenchTask(str(files.write(tmp_path / "ib", files.INFINITEBENCH)))


def by_family(task: Any) -> dict[str, Sample]:
    return {sample.family: sample for sample in task.samples("test", None, 0)}


def test_every_task_of_infinitebench_is_asked_and_keeps_the_promises(
    bench: InfiniteBenchTask,
) -> None:
    samples = by_family(bench)
    assert set(samples) == set(TASKS)
    assert "in the following list?\n\n[3, 9]" in samples["math_find"].question
    assert samples["math_find"].question.startswith("What is the largest number")
    assert samples["code_run"].question.endswith("value of func_1(-3). The value of func_1(-3) is")
    assert "B. Bea\nC. Cy" in samples["longbook_choice_eng"].question
    assert samples["longbook_choice_eng"].answer == "B"
    assert samples["passkey"].question.endswith("The pass key is")
    assert samples["passkey"].metadata["max_new_tokens"] == 6
    assert not any("{" in s.question.replace('{"', "") for s in samples.values())
    check_task(bench, limit=len(TASKS))
    assert len({s.family for s in bench.samples("test", 5, 0)}) == 5
    assert not bench.samples("train", 4, 0)


@pytest.mark.parametrize(
    ("subset", "reply", "value"),
    [
        ("passkey", " is 71432. Remember 5.", 1.0),
        ("passkey", " 5 or 71432", 0.0),
        ("number_string", "714", 0.0),
        ("kv_retrieval", ' the value is "d4".', 1.0),
        ("kv_retrieval", "d44", 0.0),
        ("longbook_choice_eng", "B. Bea", 1.0),
        ("longbook_choice_eng", "I think the answer is: B", 1.0),
        ("longbook_choice_eng", "Sure, the answer is C", 0.0),
        ("longbook_choice_eng", "so it be B", 1.0),
        ("longbook_choice_eng", "", 0.0),
        ("longbook_qa_eng", "The old mill!", 2 * 1.0 * (2 / 3) / (1 + 2 / 3)),
        ("longbook_qa_chn", "李 明。", 1.0),
        ("longdialogue_qa_eng", "Anna: of course", 1.0),
        ("longdialogue_qa_eng", "Annabel", 0.0),
        ("math_find", "9.0", 1.0),
        ("math_find", "it is 8 or 9", 0.0),
        ("math_calc", "[1, 3, 7]", 1.0),
        ("math_calc", "1, 4", 0.5),
        ("code_run", "it returns 12.", 1.0),
        ("code_run", "12 or so", 0.0),
        ("code_debug", "C. g", 1.0),
        ("code_debug", "The answer is: g", 1.0),
        ("code_debug", "The answer is: e", 0.0),
        ("longbook_sum_eng", "It rains all day.", 1.0),
    ],
)
def test_replies_are_judged_as_the_authors_judge_them(
    bench: InfiniteBenchTask, subset: str, reply: str, value: float
) -> None:
    sample = by_family(bench)[subset]
    assert bench.score(sample, Answer(reply)).value == pytest.approx(value)


def test_rouge_l_sum_is_a_union_over_lines_that_counts_a_word_once() -> None:
    # the worked example of Lin (2004), section 3.2: w1 w2 and w1 w3 w5 of w1..w5
    right, found = "w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"
    precision, recall = 4 / 10, 4 / 5
    expected = 2 * precision * recall / (precision + recall)
    assert rouge_l_sum(found, right) == pytest.approx(expected)
    assert rouge_l_sum("a a a", "a b") == pytest.approx(2 * (1 / 3) * (1 / 2) / (5 / 6))
    assert rouge_l_sum("", "a") == 0.0


def test_choubun_is_read_from_parquet_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "datasets--SakanaAI--ChouBun"
    for subset, rows in files.CHOUBUN.items():
        path = home / "snapshots" / "abc" / subset / "test-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    task = ChouBunTask(words="characters")
    check_task(task)
    sample = by_family(task)["wiki_qa"]
    assert task.score(sample, Answer("東京都。")).value == 1.0
    assert task.score(sample, Answer("京")).value == pytest.approx(2 / 3)
    assert sample.metadata["max_new_tokens"] == 64
    assert task.outlook("test").downloads[0].cached


def test_the_authors_prompts_replace_ours(tmp_path: Path) -> None:
    source = str(files.write(tmp_path / "cb", files.CHOUBUN))
    prompts = tmp_path / "dataset2prompt.json"
    prompts.write_text(json.dumps(dict.fromkeys(files.CHOUBUN, "{context}|{input}")))
    task = ChouBunTask(source, words="characters", prompts=str(prompts))
    assert by_family(task)["wiki_qa"].question == "東京は首都。|首都は?"
    prompts.write_text("{}")
    with pytest.raises(UsageError, match="cannot read the prompts"):
        ChouBunTask(source, prompts=str(prompts))


def test_what_is_missing_is_said_with_what_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = files.write(tmp_path / "ib", files.INFINITEBENCH)
    (source / "passkey.jsonl").unlink()
    with pytest.raises(RunError, match=r"not complete.*passkey\.jsonl.*hf download xinrong"):
        InfiniteBenchTask(str(source)).samples("test", None, 0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(RunError, match=r"not in the hub cache.*task\.download=true"):
        InfiniteBenchTask().samples("test", None, 0)
    with pytest.raises(RunError, match=r"cannot get InfiniteBench from the hub"):
        InfiniteBenchTask(download=True).samples("test", None, 0)
    (source / "passkey.jsonl").write_text('{"context": "c", "input": "i"}\n')
    with pytest.raises(UsageError, match=r"passkey\.jsonl, row 1: no 'answer'"):
        InfiniteBenchTask(str(source)).samples("test", None, 0)
    (source / "passkey.jsonl").write_text("{broken\n")
    with pytest.raises(UsageError, match=r"passkey\.jsonl, line 1: no JSON"):
        InfiniteBenchTask(str(source)).samples("test", None, 0)
    with pytest.raises(UsageError, match="Did you mean 'passkey'"):
        InfiniteBenchTask(subsets=["paskey"])


def test_a_benchmark_runs_with_its_own_lengths_and_a_longer_context(
    tiny: Path, tmp_path: Path
) -> None:
    """A tiny Llama under NTK answers in as many tokens as the task allows, long prompts cropped."""
    from namm_mm.adapters.text.adapter import TextAdapter

    task = InfiniteBenchTask(str(files.write(tmp_path / "ib", files.INFINITEBENCH)))
    common = {"device": "cpu", "dtype": "float32", "answer_by": "generate"}
    adapter = TextAdapter(str(tiny / "text"), rope="ntk:4", **common)  # type: ignore[arg-type]
    adapter.load()
    config: Any = adapter.backbone.config
    head = config.hidden_size // config.num_attention_heads
    base = config.rope_parameters["rope_theta"]
    plain = TextAdapter(str(tiny / "text"), **common)  # type: ignore[arg-type]
    plain.load()
    own: Any = plain.backbone.config
    expected = own.rope_parameters["rope_theta"] * 7 ** (head / (head - 2))
    assert base == pytest.approx(expected)
    assert adapter.facts == {"rope": "ntk:4"}
    sample = by_family(task)["passkey"]
    inputs = adapter.prepare(sample)
    answer = adapter.answer(inputs, None)
    assert 1 <= answer.tokens - len(inputs.token_types) <= 6
    long = replace(sample, question="word " * 6000)
    room = 4 * own.max_position_embeddings - 6
    assert len(adapter.prepare(long).token_types) == room
    assert len(plain.prepare(long).token_types) == own.max_position_embeddings - 6
    again = TextAdapter(str(tiny / "text"), crop="text", **common)  # type: ignore[arg-type]
    again.load()
    cropped = again.prepare(long)
    assert abs(len(cropped.token_types) - own.max_position_embeddings + 6) <= 2
