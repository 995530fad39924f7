"""`namm-mm new adapter` writes a package that runs, and the guide is that package.

The guide's commands are run by a shell, one after the other, in an empty folder, with an
environment of its own that pip installs into. Nothing is fetched.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import documents
import pytest

from namm_mm.cli import main
from namm_mm.commands.new import FILES, package_files
from namm_mm.runs import read_records

ROOT = documents.ROOT
GUIDE = ROOT / "docs" / "how-to" / "add-an-adapter.md"
THIS = "tests/conformance/test_new_adapter.py"
BLOCKS = documents.blocks(GUIDE)
SHIM = '#!/bin/sh\nexec "{python}" {module} "$@"\n'
COMMAND = "-c 'import sys; from namm_mm.cli import main; sys.exit(main())'"


def environment(folder: Path) -> dict[str, str]:
    """An environment with `python`, `pip` and `namm-mm`, which sees the packages of this one."""
    venv.create(folder, symlinks=True)
    (place,) = folder.glob("lib/python*/site-packages")
    here = Path(pytest.__file__).parents[1]
    (place / "here.pth").write_text(f"import site; site.addsitedir({str(here)!r})\n")
    for name, module in (("pip", "-m pip"), ("namm-mm", COMMAND)):
        file = folder / "bin" / name
        file.write_text(SHIM.format(python=folder / "bin" / "python", module=module))
        file.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads 0 as: no isolation
        "PIP_QUIET": "1",
        "WANDB_MODE": "disabled",
        "COLUMNS": "100",
    }


def shown(line: str) -> re.Pattern[str]:
    """A line of the guide: ``...`` is anything, and digits depend on the processor."""
    words = re.escape(" ".join(line.split())).replace(r"\.\.\.", ".*")
    return re.compile(re.sub(r"\d+", lambda _: r"\d+", words))


@pytest.mark.slow
def test_the_guide_can_be_followed_to_the_letter_in_an_empty_folder(tmp_path: Path) -> None:
    around = environment(tmp_path / "environment")
    place = tmp_path / "empty"
    place.mkdir()
    commands = [block for block in BLOCKS if block.language == "bash"]
    assert {block.by for block in commands} == {THIS}
    script = "\n".join(block.text for block in commands)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=place, env=around, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = "\n".join(" ".join(line.split()) for line in done.stdout.splitlines())
    for block in BLOCKS:
        for line in block.text.splitlines() if block.language == "text" else ():
            assert shown(line).search(printed), f"{block.place}: {line!r} is not printed"
    for block in BLOCKS:
        if block.title:
            assert (place / block.title).read_text() == block.text, block.title
    for name in ("birdsong", "rover"):
        (folder,) = (place / name / "runs" / name).iterdir()
        records, _ = read_records(folder)
        assert not [record.error for record in records if record.error]
        assert {r.policy for r in records} == {"full", "namm", "h2o", "recency", "random"}
        kept = {p: [r for r in records if r.policy == p] for p in ("namm", "recency")}
        for one, other in zip(kept["namm"], kept["recency"], strict=True):
            assert one.memory is not None
            assert other.memory is not None
            assert one.memory.tokens_final == pytest.approx(other.memory.tokens_final, rel=0.02)
            assert one.memory.kept_fraction is not None
            assert 0.3 < one.memory.kept_fraction < 0.8


def test_the_guide_shows_the_package_in_full() -> None:
    names = [block.title for block in BLOCKS if block.title]
    answering = [f"birdsong/{path}" for path in package_files("birdsong", "answering")]
    assert [name for name in names if name.startswith("birdsong/")] == [
        name for name in answering if not name.endswith("README.md")
    ]
    assert [n for n in names if n.startswith("rover/")] == [
        "rover/namm_mm_rover/adapter.py",
        "rover/namm_mm_rover/task.py",
    ]
    for name, kind in (("birdsong", "answering"), ("rover", "acting")):
        files = package_files(name, kind)
        for block in BLOCKS:
            if block.title.startswith(f"{name}/"):
                text = files[block.title.removeprefix(f"{name}/")]
                assert block.text == text, f"{block.title} has changed:\n{text}"


@pytest.mark.parametrize("kind", ["answering", "acting"])
def test_what_is_to_be_changed_is_marked_and_the_code_is_clean(kind: str, tmp_path: Path) -> None:
    for path, text in package_files("long_name2", kind).items():
        assert "$" not in text
        assert "LongName2" in text or "long_name2" in text or "long-name2" in text
        marked = "CHANGE" in text
        assert marked == (not path.startswith(("tests/", "namm_mm_long_name2/__init__"))), path
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    ruff = Path(sys.executable).parent / "ruff"
    if not ruff.is_file():
        pytest.skip("ruff is not here")
    rules = ["--isolated", "--line-length", "100"]
    for words in (["check", "--select", "E,F,I,UP,B,SIM,RET"], ["format", "--check"]):
        command = [str(ruff), *words, *rules, "."]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["adapter", "Birdsong"], "such as bird_song"),
        (["adapter", "bird-song"], "such as bird_song"),
        (["adapter", "class"], "cannot be the name"),
        (["adapter", "../up"], "cannot be the name"),
        (["adapter", "text"], "is there already"),
        (["adapter", "taken"], "the folder exists already"),
        (["adapter"], "expected adapter NAME"),
        (["adaptr", "birdsong"], "expected adapter NAME"),
        ([], "got 'nothing'"),
        (["adapter", "birdsong", "--kind", "acts"], "Did you mean 'acting'"),
        (["adapter", "birdsong", "--knid", "acting"], "Did you mean '--kind'"),
    ],
)
def test_what_cannot_be_written_is_refused(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["new", *words]) == 2
    assert told in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    assert main(["new", "adapter", "birdsong"]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_every_template_is_a_file_of_the_package() -> None:
    templates = ROOT / "namm_mm" / "commands" / "templates"
    used = {
        name.replace("KIND", kind) for name in FILES.values() for kind in ("answering", "acting")
    }
    assert {str(p.relative_to(templates)) for p in templates.rglob("*.txt")} == used
