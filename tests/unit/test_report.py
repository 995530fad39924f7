from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plotly import graph_objects as go
from rich.console import Console
from synthetic_records import PROVENANCE, make_history, make_record, make_records, with_histories

from namm_mm import report
from namm_mm.console.table import result_table
from namm_mm.errors import RunError, UsageError
from namm_mm.records import Asked, Inputs, Media, MemoryUse, Record, Sample
from namm_mm.report import html, markdown, pictures
from namm_mm.report.contents import build
from namm_mm.results.blocks import Figure, Histories, Report, Samples, Table
from namm_mm.results.rows import result_rows
from namm_mm.runs import RunInfo
from namm_mm.runs.jsonl import write_records
from namm_mm.runs.load import load_runs
from namm_mm.runs.pictures import save_frames
from namm_mm.tracking import open_run

MEMORY = MemoryUse(256, 2, (256.0,) * 4, 256.0, 256.0, 65536, 65536)


def write(
    folder: Path,
    records: Sequence[Record],
    *,
    notes: tuple[str, ...] = (),
    config: Mapping[str, Any] | None = None,
) -> Path:
    info = RunInfo("pocket", "transfer", config or {}, records[0].provenance, notes=notes)
    with open_run(folder, info, wandb_mode="disabled") as tracker:
        for record in records:
            tracker.record(record)
    return folder


def make_report(folder: Path, records: Sequence[Record]) -> Report:
    return build(load_runs([write(folder, records)]))


def figures(made: Report) -> list[Figure]:
    return [block for s in made.sections for block in s.blocks if isinstance(block, Figure)]


def printed(records: Sequence[Record], width: int = 160) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(result_table(records))
    return file.getvalue()


def test_console_html_and_markdown_show_the_same_numbers(tmp_path: Path) -> None:
    records = make_records(12)
    made = make_report(tmp_path, records)
    page, document, table = html.render(made), markdown.render(made), printed(records)
    for row in result_rows(records):
        assert row.score is not None
        places = 1 if row.metric == "normalized_score" else 3
        mean = f"{row.score.mean:.{places}f}"
        assert mean in page
        assert mean in document
        assert mean in table
        assert f"[{row.score.low:.{min(places, 2)}f}, {row.score.high:.{min(places, 2)}f}]" in page
    assert "1 failed" in page
    assert "1 failed" in table


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[^\s()\u2500]+", text))


def test_a_narrow_console_leaves_columns_out_and_breaks_no_word() -> None:
    records = make_records(12)
    known = words_of(printed(records, 400))
    for width in (60, 80, 100, 160):
        lines = printed(records, width).splitlines()
        assert max(map(len, lines)) <= width
        assert words_of("\n".join(lines[:10])) <= known
    for name in ("match:namm", "kept", "cache bytes", "to full"):
        assert name in printed(records, 80)
    assert "At this width without: NAMM - this, cache tokens, first token." in printed(records, 80)
    assert "At this width without" not in printed(records, 160)


def test_every_part_of_what_is_told_of_a_cache_has_its_line_in_a_narrow_console() -> None:
    grown = dataclasses.replace(
        MEMORY, live_final=MEMORY.bytes_final - 1024, bytes_peak=2 * MEMORY.bytes_final
    )
    records = [make_record(sample="a"), make_record(sample="a", policy="namm", memory=grown)]
    lines = [line.strip() for line in printed(records, 80).splitlines()]
    assert any(line.endswith("cache bytes") for line in lines)
    assert "over full" in lines


def test_metrics_that_differ_stand_in_tables_of_their_own(tmp_path: Path) -> None:
    """Half of the samples have options and accuracy, half are generated and matched exactly."""
    records = [
        make_record(
            policy=policy,
            sample=f"s{i}",
            value=float(i % 2 == 0 or policy == "full"),
            metric="accuracy" if i < 4 else "exact_match",
            family="options" if i < 4 else "generated",
        )
        for policy in ("full", "namm")
        for i in range(12)
    ]
    records[-1] = dataclasses.replace(records[-1], value=None, metric="", error="broken")
    made = make_report(tmp_path, records)
    tables = [b for b in made.sections[0].blocks if isinstance(b, Table)]
    assert [table.title.rpartition(": ")[2] for table in tables] == ["accuracy", "exact match"]
    assert [table.rows[1][2].text for table in tables] == ["0.500", "0.571"]
    assert [(table.rows[1][1].text, table.rows[1][1].detail) for table in tables] == [
        ("4", ""),
        ("7", "1 failed"),
    ]
    assert ": exact match" in printed(records)


def test_only_differences_that_hold_after_holms_correction_are_bold(tmp_path: Path) -> None:
    """Ten of ten pairs differ: p is .002; six of six: p is .031, which Holm makes .06."""
    skills = {"full": 12, "namm": 12, "h2o": 2, "l2": 6}
    records = [
        make_record(policy=policy, sample=f"s{i:02d}", value=float(i < right))
        for policy, right in skills.items()
        for i in range(12)
    ]
    (table,) = [
        b for b in make_report(tmp_path, records).sections[0].blocks if isinstance(b, Table)
    ]
    bold = {
        row[0].text: [entry.strong for entry in row]
        for row in table.rows
        if any(e.strong for e in row)
    }
    assert list(bold) == ["h2o"]
    places = [
        column.name for column, strong in zip(table.columns, bold["h2o"], strict=True) if strong
    ]
    assert places == ["to full", "NAMM - this"]
    assert "is not significant (n = 12)" in table.summary


def test_a_budget_that_was_never_reached_is_told(tmp_path: Path) -> None:
    records = [
        make_record(sample=f"s{i}", policy=policy, budget=budget)
        for policy, budget in (("full", "full"), ("h2o", "tokens:256"), ("l2", "tokens:64"))
        for i in range(3)
    ]
    cut = dataclasses.replace(MEMORY, tokens_final=64.0, tokens_peak=64.0)
    records = [dataclasses.replace(r, memory=cut) if r.policy == "l2" else r for r in records]
    (table,) = [
        b for b in make_report(tmp_path, records).sections[0].blocks if isinstance(b, Table)
    ]
    assert table.note == "The budget was never reached and nothing was evicted: h2o tokens:256."
    assert [
        [entry.detail for entry in row if entry.warning and entry.detail] for row in table.rows
    ] == [[], ["nothing evicted"], []]
    assert "never reached" in printed(records)
    assert "never reached" in markdown.render(make_report(tmp_path, records))


def test_a_cache_larger_than_the_full_one_is_marked(tmp_path: Path) -> None:
    grown = dataclasses.replace(
        MEMORY, tokens_final=128.0, bytes_final=MEMORY.bytes_final + 1, bytes_peak=90000
    )
    records = [make_record(sample="a"), make_record(sample="a", policy="namm", memory=grown)]
    (table,) = [
        b for b in make_report(tmp_path, records).sections[0].blocks if isinstance(b, Table)
    ]
    assert table.note == (
        "The cache takes more bytes than the full one at the end: namm. "
        "The cache takes more bytes than the full one at its peak: namm."
    )
    assert "over full" in printed(records)


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = html.render(make_report(tmp_path, make_records(4)))
    shell = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "default-src 'none'" in shell
    assert not re.search(r"""(src|href)=["'](?!#)""", shell)
    assert "url(" not in shell


def test_figures_are_valid_and_carry_their_numbers_as_tables(tmp_path: Path) -> None:
    made = make_report(tmp_path, make_records(6))
    found = figures(made)
    assert len(found) == 3 + 3 + 4 + 1 + 2  # cache, layers, index kinds, token_types, families
    for figure in found:
        go.Figure(figure.plot)  # raises on an unknown property
        json.dumps(figure.plot, allow_nan=False)
        assert figure.table.rows
        assert all(len(row) == len(figure.table.columns) for row in figure.table.rows)


def test_text_from_records_cannot_break_the_page(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>|`**"
    records = [make_record(answer=evil, family=evil, policy=evil, sample=f"s{i}") for i in range(3)]
    records += [make_record(family="other", error=evil, value=None, sample="s9")]
    made = make_report(tmp_path, records)
    page = html.render(made)
    assert "<img" not in page
    assert page.count("</script>") == len(figures(made)) + 2
    rows = [line for line in markdown.render(made).splitlines() if line.startswith("| s0")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)


def test_single_samples_show_what_was_asked_and_what_each_policy_kept(tmp_path: Path) -> None:
    asked = Asked("Which </script> colour?", ("red", "blue"), "red")
    records = [
        make_record(
            policy=policy,
            sample=f"s{index:02d}",
            answer="blue",
            value=0.0,
            asked=asked,
            kept_by_index={"frame": [1.0, kept, 0.25]},
        )
        for policy, kept in (("full", 1.0), ("namm", 0.5))
        for index in range(30)
    ]
    made = make_report(tmp_path, records)
    (viewer,) = [b for s in made.sections for b in s.blocks if isinstance(b, Samples)]
    assert 10 <= len(viewer.views) <= 24
    assert "of 30 samples are here" in viewer.description
    view = viewer.views[0]
    assert (view.rows, view.values) == (
        ("full", "namm"),
        ((1.0, 1.0, 0.25), (1.0, 0.5, 0.25)),
    )
    assert ("options", "red / blue") in view.about
    assert ("right answer", "red") in view.about
    assert ("namm", "blue (accuracy 0.000)") in view.about
    page, document = html.render(made), markdown.render(made)
    assert "Which </script>" not in page
    assert "- namm: 100% 50% 25%" in document


def test_frames_are_pictured_as_the_model_got_them(tmp_path: Path) -> None:
    frames = torch.zeros(1, 3, 3, 20, 10)
    frames[0, 1] = 1.0  # black, white, black, whatever the normalisation was
    inputs = Inputs({"pixel_values_videos": 2 * frames - 1}, (), Sample("a/b.mp4", "video"))
    name = save_frames(tmp_path, "video", inputs)
    assert name.startswith("frames/video-a_b.mp4")
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (3 * 32, 64)
        assert [picture.getpixel((16 + 32 * k, 32)) for k in range(3)] == [
            (0, 0, 0),
            (255, 255, 255),
            (0, 0, 0),
        ]
    assert save_frames(tmp_path, "text", Inputs({}, (), Sample("c", "text"))) == ""

    kept: dict[str, Any] = {"kept_by_index": {"frame": [1.0, 0.5, 0.0]}}
    records = [
        make_record(sample="a", media=Media(name), **kept),
        make_record(sample="b", media=Media("../../outside.jpg"), **kept),
        make_record(sample="c", **kept),
    ]
    made = make_report(tmp_path, records)
    (viewer,) = [b for s in made.sections for b in s.blocks if isinstance(b, Samples)]
    assert [(view.name, bool(view.frames)) for view in viewer.views] == [("a", True), ("b", False)]
    assert "data:image/jpeg;base64," in html.render(made)


def test_an_unfinished_run_is_reported_as_one(tmp_path: Path) -> None:
    info = RunInfo("pocket", "transfer", {}, PROVENANCE)
    tracker = open_run(tmp_path, info, wandb_mode="disabled")
    tracker.record(make_record())
    assert "has not finished" in report.render([tmp_path]).read_text()
    tracker.finish("ok")
    assert "has not finished" not in report.render([tmp_path]).read_text()


def test_a_cut_off_line_is_a_warning_in_the_report(tmp_path: Path) -> None:
    write(tmp_path, [make_record(sample=f"s{i}") for i in range(3)])
    file = tmp_path / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    text = report.render([tmp_path], kind="markdown").read_text()
    assert "Warning" in text
    assert "line 3 is cut off" in text


def test_results_come_first_and_notes_last(tmp_path: Path) -> None:
    write(tmp_path, [make_record()], notes=("NAMM: provisional",))
    page = report.render([tmp_path]).read_text()
    assert page.index("<table") < page.index("NAMM: provisional")
    headings = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert headings[0] == "Results"
    assert headings[-2:] == ["Notes", "Provenance"]


def test_a_heading_stands_above_its_own_sentence(tmp_path: Path) -> None:
    page = html.render(make_report(tmp_path, make_records(4)))
    for title in re.findall(r"<h3[^>]*>(long_text with[^<]*)", page):
        assert page.index(title) < page.index("NAMM keeps") < page.index("<table")


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    one = write(tmp_path / "one", make_records(4), config={"interval": 128, "seeds": [0]})
    two = write(
        tmp_path / "two",
        make_records(4, run="second", seed=1),
        config={"interval": 64, "seeds": [0], "cells": {"text": {"policies": [{"name": "h2o"}]}}},
    )
    copy = write(tmp_path / "copy", make_records(4), config={"interval": 128, "seeds": [0]})
    runs = load_runs([one, two, copy])
    names = [PROVENANCE.run, "second", "copy"]
    assert [run.name for run in runs] == names
    made = build(runs)
    (table, *_, differences) = [b for b in made.sections[0].blocks if isinstance(b, Table)]
    assert table.columns[0].name == "run"
    assert {row[0].text for row in table.rows} == set(names)
    assert len(table.rows) == 3 * 5
    assert [column.name for column in differences.columns] == ["setting", *names]
    assert [[entry.text for entry in row] for row in differences.rows] == [
        ["interval", "128", "64", "128"],
        ["cells.text.policies.h2o.name", "(not set)", "h2o", "(not set)"],
    ]


def test_tables_of_different_runs_have_different_headings(tmp_path: Path) -> None:
    """Runs on other samples are not compared; each table names its run."""
    other = [
        dataclasses.replace(record, dataset="other") for record in make_records(4, run="second")
    ]
    folders = [write(tmp_path / "one", make_records(4)), write(tmp_path / "two", other)]
    made = build(load_runs(folders))
    titles = [b.title for b in made.sections[0].blocks if isinstance(b, Table)]
    assert len(titles) == len(set(titles)) == 3 + 3 + 1
    assert "long_text with text (smollm2-135m), run second" in titles
    assert "run second" in printed([r for run in load_runs(folders) for r in run.records])


def test_many_records_are_sampled_and_the_report_says_so(tmp_path: Path) -> None:
    records = make_records(100)
    page = html.render(make_report(tmp_path, records))
    assert len(page) < 6_000_000
    assert re.search(r"\d+ of 100 samples are shown", page)
    assert "1,500 records" in page


def test_a_run_of_failures_only_still_gives_a_report(tmp_path: Path) -> None:
    records = [
        make_record(sample=f"s{i}", value=None, memory=None, metric="", error="no such file")
        for i in range(3)
    ]
    page = html.render(make_report(tmp_path, records))
    assert "3 of 3 records failed: 3 times: no such file" in page
    assert "3 failed" in printed(records)


def test_what_cannot_be_reported_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records"):
        report.render([tmp_path / "nothing"])
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(UsageError, match="without records"):
        report.render([tmp_path])
    with pytest.raises(UsageError, match="one or more run folders"):
        report.render([])
    write(tmp_path, [make_record()])
    with pytest.raises(UsageError, match="Did you mean 'html'"):
        report.render([tmp_path], kind="htm")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        report.render([tmp_path], tmp_path / "file" / "report.html")


def watched_report(folder: Path) -> Report:
    records = with_histories(make_records(3), folder, ("s000", "s001"))
    return build(load_runs([write(folder, records)]))


def test_a_watched_sample_can_be_looked_into_by_layer_and_head(tmp_path: Path) -> None:
    made = watched_report(tmp_path)
    found = [block for s in made.sections for block in s.blocks if isinstance(block, Histories)]
    assert [block.views[0].form for block in found] == ["text", "frames", "steps"]
    assert "2 of 3 samples" in found[0].description
    for block in found:
        assert [one.policy for one in block.views[0].histories][:2] == [
            "full",
            "namm threshold",
        ]
    assert found[1].views[0].frames.startswith("data:image/jpeg")
    page = html.render(made)
    assert page.count('data-what="update"') == 3
    assert '"returns": [0.0, 1.0, 3.0' in page


def test_pictures_and_histories_have_a_limit_in_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("namm_mm.report.histories.ENTRIES", 3 * 5 * make_history("").forgotten.size)
    monkeypatch.setattr("namm_mm.report.samples.PICTURES", 1)
    records = with_histories(make_records(4), tmp_path, ("s000", "s001", "s002"))
    made = build(load_runs([write(tmp_path, records)]))
    blocks = [block for section in made.sections for block in section.blocks]
    for block in blocks:
        if isinstance(block, Histories):
            assert len(block.views) == 2
            assert "more would make this report too large" in block.description
        if isinstance(block, Samples) and block.views[0].frames:
            assert len(block.views) == 1


def test_a_damaged_history_costs_the_look_and_not_the_report(tmp_path: Path) -> None:
    records = with_histories(make_records(2), tmp_path, ("s000",))
    for file in (tmp_path / "history").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    made = build(load_runs([write(tmp_path, records)]))
    assert not [b for s in made.sections for b in s.blocks if isinstance(b, Histories)]


@pytest.mark.slow
def test_markdown_has_pictures_beside_it_with_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = with_histories(make_records(3), tmp_path, ("s000",))
    write(tmp_path, records)
    document = report.render([tmp_path], kind="markdown").read_text()
    named = re.findall(r"!\[[^\]]*\]\((report_pictures/[^)]+\.png)\)", document)
    assert len(named) == 13 + 2  # as many figures as in HTML, one video and one episode
    for name in named:
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert pixels.shape[1] > 500
        assert pixels.std() > 5, f"{name} is blank"
    held = markdown.remembered(make_history("long_text"), 0)
    assert held.split() == markdown_text(document, "layer 0")
    assert "20: " in document  # kept after so many tokens


def markdown_text(document: str, layer: str) -> list[str]:
    (line,) = [line for line in document.splitlines() if line.startswith(f"> {layer}: ")]
    return line.partition(": ")[2].replace("\\", "").split()


def test_pictures_draw_the_numbers_of_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = pytest.importorskip("matplotlib.axes").Axes
    drawn: list[tuple[list[float], list[float]]] = []
    errorbar = axes.errorbar

    def spy(self: Any, x: list[float], y: list[float], **options: Any) -> Any:
        drawn.append((list(x), list(y)))
        return errorbar(self, x, y, **options)

    monkeypatch.setattr(axes, "errorbar", spy)
    figure = figures(make_report(tmp_path, make_records(3)))[0]
    pictures.figure(figure, tmp_path / "one.png")
    expected = [(list(trace["x"]), list(trace["y"])) for trace in figure.plot["data"]]
    assert drawn == expected


def test_several_budgets_of_one_policy_make_a_curve_at_true_positions(tmp_path: Path) -> None:
    records = [
        make_record(
            policy="h2o",
            budget=f"tokens:{size}",
            sample=f"s{i}",
            value=float(i < size / 64),
            memory=dataclasses.replace(MEMORY, tokens_final=float(size), bytes_final=256 * size),
        )
        for size in (128, 32, 64)
        for i in range(4)
    ]
    figure = figures(make_report(tmp_path, [*records, make_record(sample="s0")]))[0]
    assert figure.title == "Accuracy against bytes"
    (line,) = [trace for trace in figure.plot["data"] if "lines" in trace["mode"]]
    assert list(line["x"]) == [8.0, 16.0, 32.0]  # KiB
    assert list(line["y"]) == [0.25, 0.25, 0.5]
    assert line["name"] == "h2o"


def test_budgets_that_heads_share_are_a_curve_of_their_own(tmp_path: Path) -> None:
    records = [
        make_record(
            policy="namm",
            budget=f"{kind}:{size}",
            sample=f"s{i}",
            value=float(i < 4 * size),
            memory=dataclasses.replace(MEMORY, bytes_final=int(10_240 * size)),
        )
        for kind in ("bytes", "pool_bytes")
        for size in (0.2, 0.4)
        for i in range(4)
    ]
    figure = figures(make_report(tmp_path, records))[0]
    lines = [trace for trace in figure.plot["data"] if "lines" in trace["mode"]]
    assert [list(line["x"]) for line in lines] == [[2.0, 4.0], [2.0, 4.0]]
    assert {line["line"]["dash"] for line in lines} == {"solid", "dash"}


def test_a_legend_has_one_entry_for_what_cannot_be_told_apart(tmp_path: Path) -> None:
    same = [
        make_record(policy=policy, sample=f"s{i}", value=float(i % 2))
        for policy in ("h2o", "l2", "random")
        for i in range(4)
    ]
    found = {figure.title: figure for figure in figures(make_report(tmp_path, same))}
    layers, quality = found["Cache size by layer"], found["Accuracy against bytes"]
    assert [trace["name"] for trace in layers.plot["data"]] == ["h2o, l2, random"]
    shown = [trace["name"] for trace in quality.plot["data"] if trace["showlegend"]]
    assert shown == ["h2o, l2, random"]
    assert len(quality.plot["data"]) == 3
    assert len({(*trace["x"], *trace["y"]) for trace in quality.plot["data"]}) == 1


def test_points_that_half_a_marker_covers_share_an_entry(tmp_path: Path) -> None:
    def record(policy: str, value: float, size: int) -> Record:
        memory = dataclasses.replace(MEMORY, bytes_final=size)
        return make_record(policy=policy, value=value, memory=memory)

    near = [record("full", 1.0, 4000), record("h2o", 0.81, 3000), record("l2", 0.8, 3010)]
    far = [*near, record("recency", 0.7, 3000)]
    (figure,) = [f for f in figures(make_report(tmp_path, far)) if "against bytes" in f.title]
    names = {trace["name"] for trace in figure.plot["data"] if trace["showlegend"]}
    assert names == {"full", "h2o, l2", "recency"}
    assert "type" not in figure.plot["layout"]["xaxis"]


def test_caches_of_very_different_sizes_have_a_logarithmic_axis(tmp_path: Path) -> None:
    def record(policy: str, value: float, size: int) -> Record:
        memory = dataclasses.replace(MEMORY, bytes_final=size)
        return make_record(policy=policy, value=value, memory=memory)

    found = [
        record("full", 1.0, 4_000_000),
        record("h2o", 0.8, 150_000),
        record("l2", 0.8, 140_000),
    ]
    (figure,) = [f for f in figures(make_report(tmp_path, found)) if "against bytes" in f.title]
    assert figure.plot["layout"]["xaxis"]["type"] == "log"
    assert "logarithmic" in figure.description
    names = {trace["name"] for trace in figure.plot["data"] if trace["showlegend"]}
    assert names == {"full", "h2o", "l2"}  # on a linear axis the two would be one point


@pytest.mark.slow
def test_ten_thousand_records_make_a_small_page(tmp_path: Path) -> None:
    write_records(tmp_path, make_records(667))
    page = report.render([tmp_path])
    assert page.stat().st_size < 6_000_000
    text = page.read_text()
    assert "10,005 records" in text
    assert "of 667 samples are shown" in text
    assert "does not say whether it finished" in text
