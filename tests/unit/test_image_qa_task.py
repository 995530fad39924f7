"""Questions about pictures: a folder of one's own, and generated ones with known answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from namm_mm.errors import UsageError
from namm_mm.records import Answer
from namm_mm.tasks.image_qa import ImageQaTask, documents, generated
from namm_mm.tasks.image_qa.generated import ALBUMS, FAMILIES

pytestmark = pytest.mark.numeric


def write(folder: Path, *lines: dict[str, Any] | str) -> ImageQaTask:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "questions.jsonl").write_text("\n".join(text))
    return ImageQaTask(source=str(folder))


def asked(**changes: Any) -> dict[str, Any]:
    line = {"images": ["a.png", "b.png"], "question": "What?", "options": ["x", "y"], "answer": "B"}
    return {name: value for name, value in {**line, **changes}.items() if value is not None}


def test_a_folder_names_one_picture_or_several(tmp_path: Path) -> None:
    one = asked(images="a.png", answer="x", family="receipts", id="first")
    task = write(tmp_path, asked(), one, asked(options=None, answer="seven"))
    samples = task.samples("test", None, 0)
    assert [len(sample.images) for sample in samples] == [2, 1, 2]
    assert samples[0].images == (tmp_path / "a.png", tmp_path / "b.png")
    assert [sample.answer for sample in samples] == ["y", "x", "seven"]
    assert [sample.family for sample in samples] == ["image", "receipts", "image"]
    assert task.score(samples[0], Answer("y", 1)).value == 1.0
    assert task.score(samples[2], Answer("Seven.")).value == 1.0
    assert "have no image" in task.missing(samples)[0]
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert task.missing(samples) == []
    assert "b.png (line-1)" in task.notices(samples)[0]
    before = task.fingerprint()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "b.png")
    assert task.fingerprint() != before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: not valid JSON"),
        (asked(images=[]), "wrong image"),
        (asked(images=["a.png", 3]), "wrong image"),
        (asked(images=None), "no image:"),
        (asked(images=" "), "wrong image"),
        (asked(video="a.mp4"), "unknown field.*image"),
        (asked(answer="C"), "a letter from A to B"),
        (asked(options=["x"]), "wrong options"),
        (asked(question=""), "wrong question"),
    ],
)
def test_a_wrong_line_is_told_with_file_and_line(
    tmp_path: Path, line: dict[str, Any] | str, told: str
) -> None:
    with pytest.raises(UsageError, match=rf"(?s)questions\.jsonl, line 1.*{told}|{told}"):
        write(tmp_path, line).samples("test", None, 0)


def test_a_folder_without_questions_says_what_a_line_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'"image": "page\.png"'):
        ImageQaTask(source=str(tmp_path))
    with pytest.raises(UsageError, match="Did you mean 'table'"):
        ImageQaTask(families=["tabel"])


def test_the_same_arguments_give_the_same_pictures_and_questions(tmp_path: Path) -> None:
    first, again = (
        ImageQaTask(families=FAMILIES, cache=str(tmp_path / name)).samples("test", 11, 0)
        for name in ("a", "b")
    )
    for one, other in zip(first, again, strict=True):
        assert (one.question, one.options, one.answer) == (
            other.question,
            other.options,
            other.answer,
        )
        for left, right in zip(one.images, other.images, strict=True):
            assert np.array_equal(np.asarray(Image.open(left)), np.asarray(Image.open(right)))
    assert {one.family for one in first} == set(FAMILIES)
    assert ImageQaTask(families=["table"]).fingerprint() != ImageQaTask().fingerprint()


def test_right_letters_are_balanced_and_every_option_is_another(tmp_path: Path) -> None:
    task = ImageQaTask(families=["table", "layout"], cache=str(tmp_path))
    samples = task.samples("train", 16, 3)
    letters = [sample.metadata["letter"] for sample in samples]
    assert sorted(letters) == sorted("ABCD" * 4)
    assert all(len(set(sample.options)) == 4 for sample in samples)


@pytest.mark.parametrize("kind", documents.KINDS)
def test_the_answer_to_a_document_is_what_is_printed_there(
    kind: str,
) -> None:
    owners: dict[documents.Document, str] = {}
    for split in ("train", "validation", "test"):
        for seed in range(20):
            rng = np.random.default_rng(seed)
            pages = documents.make_documents(kind, split, rng)
            for page in pages:
                assert owners.setdefault(page, split) == split
            assert len({page.title for page in pages}) == len(pages)
            question = documents.ask(pages, rng, seed % 4)
            page = pages[question.page]
            assert page.title in question.text
            right = question.options[question.answer]
            rows = dict(page.rows)
            if kind == "chart":
                assert int(rows[right]) == max(map(int, rows.values()))
            else:
                assert rows[next(name for name in rows if f" {name} " in question.text)] == right
            assert len(set(question.options)) == 4


def test_a_bar_is_as_long_as_its_value() -> None:
    document = documents.Document("chart", "Rosewood", (("tea", "20"), ("ink", "60")))
    blue = (np.asarray(documents.draw(document))[..., 2] > 200) & (
        np.asarray(documents.draw(document))[..., 0] < 60
    )
    assert blue[80].sum() == pytest.approx(2.8 * 20, abs=2)
    assert blue[122].sum() == pytest.approx(2.8 * 60, abs=2)


def test_the_pictures_of_an_album_that_hold_the_evidence_show_it(tmp_path: Path) -> None:
    task = ImageQaTask(families=["needle"], cache=str(tmp_path))
    for sample in task.samples("test", 4, 0):
        (slot,) = sample.metadata["evidence"]
        pictures = [np.asarray(Image.open(file)).astype(int) for file in sample.images]
        assert generated.FEWEST_PICTURES <= len(pictures) <= generated.MOST_PICTURES
        middle = np.median(pictures, axis=0)
        changed = [float(np.abs(picture - middle).mean()) for picture in pictures]
        assert max(range(len(changed)), key=changed.__getitem__) == slot


def test_albums_of_different_splits_show_different_things() -> None:
    from namm_mm.tasks.video_qa.scenes import split_of

    for family in ALBUMS:
        for split in ("train", "test"):
            scene, _ = generated._scene(family, split, 0, 1)
            assert split_of(scene) == split
