"""What the documents say can be done can be done, and their links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

import documents
import matplotlib
import pytest
import speech_checkpoints
import text_checkpoints
import yaml
from documents import Block

from namm_mm import cli
from namm_mm.models import packaged
from namm_mm.policies import POLICIES
from research.benchmarks import results_field, results_headline, results_media
from research.benchmarks.results_short import filled

SMOLLM2 = packaged.MODELS["smollm2-135m-instruct"]
BY_NAME = {str(page.relative_to(documents.ROOT)): page for page in documents.PAGES}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
LARGEST = 1000
"""Words of a page outside its tables and blocks."""


def running(page: Path) -> list[Block]:
    found = [block for block in documents.blocks(page) if block.runs or block.title]
    return found if any(block.runs for block in found) else []


@pytest.fixture
def place(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the names of the documents stand for something small."""
    shutil.copytree(tiny / "clips", tmp_path / "my-videos")
    shutil.copy(tiny / "clips" / "red.mp4", tmp_path / "clip.mp4")
    shutil.copy(tiny / "namm.safetensors", tmp_path / "my-namm.safetensors")
    shutil.copy(tiny / "namm.json", tmp_path / "my-namm.json")
    shutil.copytree(tiny / "pictures", tmp_path / "my-pictures")
    (talk, *_) = speech_checkpoints.samples(tmp_path / "my-sounds")
    shutil.copy(talk.sounds[0], tmp_path / "talk.wav")
    line = {"sound": talk.sounds[0].name, "question": "Who?", "answer": "B", "options": ["a", "b"]}
    (tmp_path / "my-sounds" / "questions.jsonl").write_text(json.dumps(line))
    for name in ("page.png", "photo.jpg"):
        shutil.copy(tiny / "pictures" / name, tmp_path / name)
    for mine, ours in (
        ("my-image-model", "image"),
        ("my-speech-model", "speech"),
        ("my-video-model", "video"),
        ("my-decision-transformer", "control"),
    ):
        (tmp_path / mine).symlink_to(tiny / ours)
    text_checkpoints.save(tmp_path / "my-model", max_position_embeddings=4096)
    letter = "The letter was written by Ada. She lived in Hull and kept bees. " * 12
    (tmp_path / "letter.txt").write_text(letter)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    matplotlib.use("agg")
    return tmp_path


def run(found: Sequence[Block]) -> None:
    """Run the blocks of a page, one after the other, as a reader would."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in found:
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, block.place, "exec", dont_inherit=True), names)
        for words in block.commands if block.runs and block.language == "bash" else ():
            assert words[0] == "namm-mm", f"{block.place}: {words[0]} is no command of ours"
            assert cli.main(words[1:]) == 0, f"{block.place}: {' '.join(words)}"


@pytest.mark.slow  # all pages together
@pytest.mark.parametrize("name", [name for name, page in BY_NAME.items() if running(page)])
def test_what_a_page_shows_runs(name: str, place: Path) -> None:
    run([block for block in running(BY_NAME[name]) if not block.slow])


@pytest.mark.slow
@pytest.mark.skipif(
    not (packaged.cached(SMOLLM2) or packaged.source(SMOLLM2)),
    reason=f"needs `{SMOLLM2.install}`",
)
@pytest.mark.parametrize(
    "name", [name for name, page in BY_NAME.items() if any(b.slow for b in running(page))]
)
def test_what_a_page_shows_runs_with_real_models(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAMM_MM_CACHE")
    run(running(BY_NAME[name]))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_block_can_be_run_or_read_or_says_why_not(name: str) -> None:
    page = BY_NAME[name]
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\n\n    \S", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)), (
        "an indented block of code: fence it, so that it has a language"
    )
    for block in documents.blocks(page):
        assert block.language in (*documents.RUNNABLE, *documents.DATA), block.place
        for file in block.by.split():
            assert (documents.ROOT / file).is_file(), f"{block.place}: no {file}"
        if block.language == "yaml":
            yaml.safe_load(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)
        if block.language == "json":
            for line in block.text.splitlines():
                json.loads(line)


@pytest.mark.parametrize("name", BY_NAME)
def test_what_cannot_be_run_names_real_things(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (documents.ROOT / "Makefile").read_text(), re.M))
    for block in documents.blocks(BY_NAME[name]):
        for words in block.commands if block.language == "bash" else ():
            first, *rest = [word for word in words if "=" not in word or word.startswith("--")]
            if first == "make":
                assert set(rest) <= targets, f"{block.place}: make {rest}"
            if first in ("python", ".venv/bin/python") and rest[0].endswith(".py"):
                assert (documents.ROOT / rest[0]).is_file(), f"{block.place}: no {rest[0]}"
            if first == "namm-mm" and rest[0] not in ("--help",):
                assert rest[0] in cli.VERBS, f"{block.place}: no verb {rest[0]}"


INLINE = sorted(
    {
        (name, words)
        for name, page in BY_NAME.items()
        if name != "docs/changelog.md"
        for words in re.findall(r"`namm-mm ((?:transfer|evaluate|evolve)[^`]*)`", page.read_text())
    }
)


@pytest.mark.parametrize(("name", "words"), INLINE)
def test_a_command_within_a_text_can_be_composed(name: str, words: str, place: Path) -> None:
    for shown, meant in (("FILE", "my-namm.safetensors"), ("FOLDER", "runs/mine"), ("cuda", "cpu")):
        words = words.replace(shown, meant)
    plan = "--plan" in words  # of a run that does not fit, the exit code is 1
    assert cli.main([*shlex.split(words), *([] if plan else ["--show"])]) in (0, int(plan))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Markdown renderers make them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", BY_NAME)
def test_links_lead_to_files_and_headings(name: str) -> None:
    page = BY_NAME[name]
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        link = found[1] or found[2]
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name}: {link} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name}: {link}: no such heading"


def test_no_document_has_the_marks_of_an_unfinished_merge() -> None:
    around = ("*.md", "*.toml", "*.txt", "research/*.md", "Makefile", "Dockerfile")
    files = [*documents.PAGES, *(f for name in around for f in documents.ROOT.glob(name))]
    marks = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
    found = [file.name for file in files if marks.search(file.read_text(errors="replace"))]
    assert found == []


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w./-]+\.md", (documents.ROOT / "mkdocs.yml").read_text()))
    pages = {name.removeprefix("docs/") for name in BY_NAME if name.startswith("docs/")}
    assert named == pages


def test_no_page_is_longer_than_a_reader_has_patience_for() -> None:
    prose = {name: page.read_text() for name, page in BY_NAME.items()}
    assert len(prose["README.md"].split()) < 900
    cut = {
        name: re.sub(r"^(```.*?^```|\|.*?)$", "", text, flags=re.M | re.S)
        for name, text in prose.items()
    }
    assert {name for name, text in cut.items() if len(text.split()) > LARGEST} == set()


@pytest.mark.slow  # bootstraps of every row
def test_the_tables_of_results_are_those_of_the_records() -> None:
    page = BY_NAME["docs/results-appendix.md"].read_text(encoding="utf-8")
    assert filled(page) == page, "run python research/benchmarks/results_short.py"
    headline = BY_NAME["docs/results.md"].read_text(encoding="utf-8")
    made = results_headline.filled(headline)
    assert made == headline, "run python research/benchmarks/results_headline.py"


@pytest.mark.slow  # bootstraps of every row of the field
def test_the_tables_of_the_field_are_those_of_its_records() -> None:
    page = BY_NAME["docs/field.md"].read_text(encoding="utf-8")
    made = results_field.filled(page, results_field.kept_records())
    assert made == page, "run python research/benchmarks/results_field.py"


def test_the_tables_of_speech_and_pictures_are_those_of_their_records() -> None:
    page = BY_NAME["docs/speech-and-images.md"].read_text(encoding="utf-8")
    made = results_media.filled(page, results_media.kept_records())
    assert made == page, "run python research/benchmarks/results_media.py"


def test_every_policy_has_a_row_and_a_section() -> None:
    page = BY_NAME["docs/policies.md"]
    text = page.read_text(encoding="utf-8")
    for name in POLICIES:
        assert f"| [`{name}`](#{name}) |" in text, f"docs/policies.md: no row for {name}"
        assert name in anchors(page), f"docs/policies.md: no section for {name}"
