"""A long run says how far it is: lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from synthetic_records import make_record

from namm_mm.console.progress import Lines, showing
from namm_mm.console.running_means import RunningMeans


def test_a_log_gets_few_lines_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))  # every record takes four seconds
    monkeypatch.setattr("namm_mm.console.progress.time.monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    lines = Lines(Console(file=out, width=100))
    lines.begin("text", 10)
    for _ in range(10):
        lines.advance()
    assert out.getvalue().splitlines() == [
        "text: 3/10 records, 0:12 passed, 0:28 left",
        "text: 6/10 records, 0:24 passed, 0:16 left",
        "text: 9/10 records, 0:36 passed, 0:04 left",
        "text: 10/10 records, 0:40 passed, 0:00 left",
    ]


def test_a_log_ends_each_cell_with_its_scores() -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200))
    lines.begin("video", 3)
    for value in (1.0, 0.0, None):
        lines.advance(make_record(value=value, error="" if value is not None else "broken"))
    assert out.getvalue().splitlines()[-1] == "video: accuracy: full 0.500 (n 2, 1 failed)"


def test_metrics_that_differ_are_never_averaged() -> None:
    means = RunningMeans("text")
    for metric, value in (("exact_match", 0.0), ("exact_match", 0.0), ("accuracy", 1.0)):
        means.add(make_record(value=value, metric=metric))
    assert means.line() == "exact match: full 0.000 (n 2); accuracy: full 1.000 (n 1)"
    out = io.StringIO()
    Console(file=out, width=80).print(means.table())
    assert re.search(r"full, exact match +2 +0\.000", out.getvalue())
    assert re.search(r"full, accuracy +1 +1\.000", out.getvalue())


def test_a_terminal_watches_scores_by_policy() -> None:
    out = io.StringIO()
    with showing(Console(file=out, width=100, force_terminal=True)) as shown:
        shown.begin("video", 4)
        for value in (1.0, 0.0):
            shown.advance(make_record(value=value))
            shown.advance(make_record(policy="namm", budget="threshold", value=1.0))
        shown.begin("control", 1)
        shown.advance(make_record(metric="normalized_score", value=95.25))
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert re.search(r"full +2 +0\.500 +100 % +0\.50 s", said)
    assert re.search(r"namm threshold +2 +1\.000", said)
    assert re.search(r"full +1 +95\.2", said)


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    with showing(Console(file=out, width=100, force_terminal=True)) as shown:
        shown.say("loading")
        shown.begin("video", 2)
        shown.detail("step 16, 3 alive")
        shown.advance()
        shown.advance()
    said = out.getvalue()
    for words in ("loading", "video", "2/2", "left"):
        assert words in said


def test_what_a_model_is_called_is_no_markup() -> None:
    out = io.StringIO()
    with showing(Console(file=out, width=100)) as shown:
        shown.say("loading [bold]model[/]")
    assert out.getvalue() == "loading [bold]model[/]\n"
