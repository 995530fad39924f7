"""Figures of a report: valid, with their numbers as tables, legends, axes and true positions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from plotly import graph_objects as go
from report_makers import MEMORY, figures, make_report
from synthetic_records import make_record, make_records

from namm_mm.records import Record
from namm_mm.report import pictures


def test_figures_are_valid_and_carry_their_numbers_as_tables(tmp_path: Path) -> None:
    made = make_report(tmp_path, make_records(6))
    found = figures(made)
    assert len(found) == 3 + 3 + 4 + 1 + 2  # cache, layers, index kinds, token_types, families
    for figure in found:
        go.Figure(figure.plot)  # raises on an unknown property
        json.dumps(figure.plot, allow_nan=False)
        assert figure.table.rows
        assert all(len(row) == len(figure.table.columns) for row in figure.table.rows)


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
