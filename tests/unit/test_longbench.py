"""LongBench as published: files of both layouts, prompts, limits, splits and metrics by hand."""

from __future__ import annotations

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import text_checkpoints

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.errors import RunError, UsageError
from namm_mm.records import Answer, Sample
from namm_mm.tasks.longbench import LongBenchTask, metrics
from namm_mm.tasks.longbench.published import tasks
from namm_mm.testing import check_task

SAMPLES = 12
ANSWERS = {
    "passage_retrieval_en": "Paragraph 7",
    "passage_retrieval_zh": "段落7",
    "passage_count": "7",
    "trec": "Number of something",
    "lsht": "军事",
}
CLASSES = {"trec": ["Number of something", "Speed"], "lsht": ["军事", "体育"]}
needs_words = pytest.mark.skipif(
    find_spec("jieba") is None or find_spec("rouge") is None,
    reason="needs rouge and jieba: pip install 'namm-mm[longbench]'",
)


def lines(task: str, count: int = SAMPLES) -> str:
    """A file as the hub has it."""
    made = [
        {
            "input": f"What is {{it}}, number {number}?",
            "context": f"Long ago there were {number} {{braces}}.",
            "answers": [ANSWERS.get(task, "seven old oaks"), "7"][: 1 + (task == "narrativeqa")],
            "length": 7,
            "dataset": task,
            "language": "en",
            "all_classes": CLASSES.get(task),
            "_id": f"{number:024x}",
        }
        for number in range(count)
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder of jsonl files."""
    folder = tmp_path_factory.mktemp("longbench")
    for task in tasks():
        (folder / f"{task}.jsonl").write_text(lines(task), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def archive(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's data.zip."""
    path = tmp_path_factory.mktemp("hub") / "data.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in folder.glob("*.jsonl"):
            file.write(member, f"data/{member.name}")
        file.writestr("data/trec_e.jsonl", "")
    return path


@needs_words
def test_it_keeps_the_promises_of_a_task(folder: Path) -> None:
    check_task(LongBenchTask(source=str(folder)), limit=42)


def test_both_layouts_give_the_same_samples(folder: Path, archive: Path) -> None:
    one, other = LongBenchTask(source=str(folder)), LongBenchTask(source=str(archive))
    below = LongBenchTask(source=str(archive.parent))
    assert one.samples("test", None, 0) == other.samples("test", None, 0)
    assert one.fingerprint() == other.fingerprint() == below.fingerprint()
    assert {sample.family for sample in one.samples("test", None, 0)} == set(tasks())
    assert one.fingerprint() != LongBenchTask(source=str(folder), splits="published").fingerprint()


def test_splits_are_apart_or_as_published(folder: Path) -> None:
    chosen = ("narrativeqa", "trec")
    held_out = LongBenchTask(families=chosen, source=str(folder))
    parts = [{s.id for s in held_out.samples(x, None, 0)} for x in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 2 * SAMPLES
    whole = LongBenchTask(families=chosen, source=str(folder), splits="published")
    assert len(whole.samples("train", None, 0)) == len(whole.samples("test", None, 0)) == 24
    few = whole.samples("test", 6, 3)
    assert [s.family for s in few] == ["narrativeqa", "trec"] * 3
    assert [s.id for s in few] == [s.id for s in whole.samples("train", 6, 3)]
    assert [s.id for s in few] != [s.id for s in whole.samples("test", 6, 4)]


def test_a_prompt_is_the_published_one_to_the_last_space(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = LongBenchTask(("passage_retrieval_en",), str(folder), "published")
    sample = task.samples("test", 1, 0)[0]
    assert sample.context.startswith("Here are 30 paragraphs from Wikipedia")
    assert "ago there were" in sample.context
    assert "{braces}.\n\nThe following is an abstract.\n\nWhat is {it}, number" in sample.context
    assert sample.context.endswith("etc.\n\nThe answer is: ")
    model = text_checkpoints.save(tmp_path_factory.mktemp("model"), max_position_embeddings=2048)
    adapter = TextAdapter(model=model, dtype="float32", answer_by="generate")
    adapter.load()
    ids = adapter.prepare(sample).tensors["input_ids"][0]
    assert adapter.tokenizer.decode(ids) == sample.context
    assert adapter.answer(adapter.prepare(sample), None).tokens == len(ids) + 32


def test_limits_and_references_are_those_of_the_papers() -> None:
    limits = {name: published.max_new_tokens for name, published in tasks().items()}
    assert (limits["narrativeqa"], limits["dureader"], limits["gov_report"]) == (128, 128, 512)
    assert len(limits) == 21
    assert sum(p.full_cache for p in tasks().values()) / 21 == pytest.approx(28.86, abs=0.005)
    assert {p.metric for p in tasks().values()} == set(metrics.METRICS)


def score(task: str, text: str, folder: Path) -> float:
    sample = LongBenchTask((task,), str(folder), "published").samples("test", 1, 0)[0]
    return LongBenchTask((task,), str(folder)).score(sample, Answer(text)).value


def test_metrics_are_those_worked_out_by_hand(folder: Path) -> None:
    # "seven old oaks" against "the Seven oaks!": 2 of 2 and 2 of 3 words
    assert score("narrativeqa", "the Seven oaks!", folder) == pytest.approx(0.8)
    assert score("narrativeqa", "A 7.", folder) == 1.0  # the second right answer
    assert score("narrativeqa", "nothing", folder) == 0.0
    assert score("passage_retrieval_en", "Paragraph 7, or 17, or 7", folder) == pytest.approx(2 / 3)
    assert score("passage_retrieval_en", "the seventh", folder) == 0.0
    assert score("passage_retrieval_zh", "段落7", folder) == 1.0
    assert score("passage_count", "7 or 8", folder) == 0.5
    assert score("trec", "Number of something\nSpeed", folder) == 1.0  # the first line alone
    assert score("trec", "Speed, Number of something", folder) == 0.5
    assert score("trec", "\nSpeed", folder) == 0.0
    # 2 * 10 matching characters of 14 + 10, the comment left out
    assert score("lcc", "\n# seven\nseven oaks\nmore", folder) == 0.83
    assert metrics.classification("abc", "abc", ["a", "ab", "abc"]) == 0.5  # "ab" is skipped


@needs_words
def test_metrics_over_words_of_two_languages() -> None:
    assert metrics.rouge_l("seven green oaks", "seven old oaks") == pytest.approx(2 / 3)
    assert metrics.rouge_l("", "seven old oaks") == 0.0
    assert metrics.rouge_l_chinese("今天天气很好", "今天天气很好") == pytest.approx(1.0)
    # jieba finds 老人 看海 and 老人 看船; the full stop does not count
    assert metrics.f1_chinese("老人看海。", "老人看船") == pytest.approx(0.5)
    assert metrics.f1_chinese("好", "坏") == 0.0


def test_scores_say_how_they_stand_to_the_published_full_cache(folder: Path) -> None:
    task = LongBenchTask(("narrativeqa",), str(folder), "published")
    found = task.score(task.samples("test", 1, 0)[0], Answer("7"))
    assert found.details["of_llama_3_8b_full_cache"] == pytest.approx(1 / 0.1038)
    assert found.metric == "f1"


def test_what_is_wrong_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'narrativeqa'"):
        LongBenchTask(("narativeqa",))
    with pytest.raises(UsageError, match="no such source"):
        LongBenchTask(source=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"no trec\.jsonl.*hf download THUDM/LongBench data\.zip"):
        LongBenchTask(("trec",), str(tmp_path)).samples("test", None, 0)
    (tmp_path / "trec.jsonl").write_text('\n{"input": "x", "answers": []}\n')
    with pytest.raises(UsageError, match=r"trec\.jsonl, line 2"):
        LongBenchTask(("trec",), str(tmp_path)).samples("test", None, 0)
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(RunError, match="the archive cannot be read"):
        LongBenchTask(("lcc",), str(tmp_path)).samples("test", None, 0)


def test_a_missing_download_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RunError, match=r"hf download THUDM/LongBench data\.zip --repo-type"):
        LongBenchTask(("trec",)).samples("test", None, 0)


def test_the_sample_of_a_task_holds_all_right_answers(folder: Path) -> None:
    sample: Sample = LongBenchTask(("narrativeqa",), str(folder)).samples("train", 1, 0)[0]
    assert sample.metadata["answers"] == ["seven old oaks", "7"]
    assert sample.answer == "seven old oaks"
