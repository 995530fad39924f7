"""The video example runs as printed, on a generated clip and on a file of one's own."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from namm_mm.tasks.video_qa import VideoQaTask

EXAMPLE = Path(__file__).parents[2] / "examples" / "video.py"


@pytest.mark.parametrize("own", [False, True])
def test_the_video_example_answers_and_says_what_was_kept_of_each_frame(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path))
    arguments: list[str] = []
    if own:
        sample = VideoQaTask(families=["needle"]).samples("test", 1, 0)[0]
        arguments = [str(sample.video), sample.question, *sample.options]
    monkeypatch.setattr(sys, "argv", ["video.py", *arguments])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    first, second, *layers = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*\? \w+" if own else r".*\? \w+; it was \w+", first)
    found = re.fullmatch(r"kept (\d+) of (\d+) tokens; by frame:", second)
    assert found
    assert int(found[1]) < int(found[2]) in range(140, 180)
    frames = [list(map(int, line.split(":")[1].split())) for line in layers]
    assert len(frames) == 6
    assert {len(counts) for counts in frames} in ({28}, {32})  # of seven or eight slots, four each
    assert all(0 < sum(counts) < 8 * len(counts) for counts in frames)  # two heads, four tokens
