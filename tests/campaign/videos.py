"""The matrix of containers, codecs and damage, against ffmpeg's own frames."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from .base import Attempt, Setting

ROOT = Path(__file__).resolve().parents[2]
MATRIX = "tests/unit/test_video_matrix.py"


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield each test of the matrix; those that this ffmpeg cannot write are left out."""
    found = setting.folder / "matrix.xml"
    chosen = [] if setting.count > 100 else ["-m", "not slow"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", MATRIX, *chosen]
    ran = subprocess.run(
        [*command, f"--junitxml={found}"], cwd=ROOT, env=dict(os.environ), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    if not found.is_file():
        yield Attempt("the matrix", ran.stderr.strip()[-300:] or "did not run")
        return
    for case in ElementTree.parse(found).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        wrong = [part for kind in ("failure", "error") for part in case.findall(kind)]
        yield Attempt(str(case.get("name")), str(wrong[0].get("message")) if wrong else "")
