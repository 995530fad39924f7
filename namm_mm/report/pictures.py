"""Figures and samples as PNG files, for documents that cannot hold a live plot.

Matplotlib draws them from the very numbers of the Plotly figures. It is needed here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.results.blocks import Figure, HistoryView
from namm_mm.results.drawing import sheet
from namm_mm.results.episode_figure import episode_figure
from namm_mm.results.styles import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = dict(zip(SYMBOLS, "oDs^P*XH", strict=True))
_WIDTH, _DOTS = 8.0, 110

_FEW, _LINE = 3, 0.25
"""Lines of a legend for which a page has room, and inches for each further one."""


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def figure(block: Figure, file: Path) -> None:
    """Draw a figure of the report into a PNG file."""
    plot(block.plot, file, height=block.height / 100)


def plot(
    figure: Mapping[str, Any], file: Path, *, height: float = 4.0, width: float = _WIDTH
) -> None:
    """Draw a Plotly figure of points, lines, bars or one heat map; the sizes are in inches."""
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(width, height), dpi=_DOTS, layout="constrained")
    layout, traces = figure["layout"], figure["data"]
    kinds = {trace["type"] for trace in traces}
    split = "yaxis2" in layout
    axes = list(page.subplots(2 if split else 1, 1, sharex=split, squeeze=False)[:, 0])
    if split:
        axes[0].set_ylabel(_title(layout, "yaxis2"))
    below = axes[-1]
    below.set_xlabel(_title(layout, "xaxis"))
    if not split:
        below.set_ylabel(_title(layout, "yaxis"))
    bars = [trace for trace in traces if trace["type"] == "bar"]
    for place, trace in enumerate(bars):
        _bars(below, trace, place, len(bars))
    for trace in traces:
        if trace["type"] == "heatmap":
            _heat(below, trace)
        elif trace["type"] == "scatter":
            _points(axes[0], trace)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    if kinds != {"heatmap"} and not split:
        below.grid(axis="y", alpha=0.3)
        low, high = below.get_ylim()
        below.set_ylim(min(0.0, low), high + 0.05 * (high - min(0.0, low)))
        if layout.get("xaxis", {}).get("rangemode") == "tozero":
            below.set_xlim(left=0)
        named = [t for t in traces if t.get("showlegend", True) and t.get("name")]
        if named:
            lines = [_name(trace).split("\n") for trace in named]
            longest = max(len(line) for name in lines for line in name)
            columns = max(1, min(len(named), round(10 * width / (longest + 6))))
            page.legend(loc="outside lower center", ncols=columns, frameon=False)
            rows = ceil(sum(map(len, lines)) / columns)
            page.set_size_inches(width, height + _LINE * max(0, rows - _FEW))
    file.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(file, metadata={"Software": None})


def history(view: HistoryView, file: Path) -> bool:
    """Draw one watched sample into a PNG file: frames, a sound, or an episode; False for text."""
    if view.form in ("frames", "sound") and view.frames:
        import base64
        import io

        from PIL import Image

        content = base64.b64decode(view.frames.partition(",")[2])
        rows = [(one.policy, one.history) for one in view.histories]
        file.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(content)) as frames:
            sheet(frames, rows, f"{view.name}: kept at the end, all layers").quantize(
                256, dither=Image.Dither.NONE
            ).save(file)
        return True
    if view.form == "steps":
        shown = [one for one in view.histories if one.history.rewards and one.history.seen]
        if shown:
            plot(episode_figure(shown[0].history), file)
        return bool(shown)
    return False


def _title(layout: Mapping[str, Any], axis: str) -> str:
    return str(layout.get(axis, {}).get("title", {}).get("text", ""))


def _name(trace: Mapping[str, Any]) -> str:
    return str(trace.get("name") or "").replace("<br>", "\n")


def _errors(trace: Mapping[str, Any]) -> list[list[float]] | None:
    error = trace.get("error_y")
    return [list(error["arrayminus"]), list(error["array"])] if error else None


def _points(axes: Axes, trace: Mapping[str, Any]) -> None:
    values = list(trace["y"])
    places = list(trace.get("x", range(len(values))))
    marker = trace.get("marker", {})
    style = {"color": marker.get("color") or trace.get("line", {}).get("color")}
    if "lines" in trace["mode"]:
        style["linewidth"] = trace.get("line", {}).get("width", 1.5)
    else:
        style["linestyle"] = "none"
    if "markers" in trace["mode"]:
        style["marker"] = _MARKERS.get(marker.get("symbol", "circle"), "o")
    name = _name(trace) if trace.get("showlegend", True) else None
    errors = _errors(trace)
    axes.errorbar(places, values, yerr=errors, capsize=3, label=name, **style)


def _bars(axes: Axes, trace: Mapping[str, Any], place: int, count: int) -> None:
    labels = list(trace["x"])
    width = 0.8 / count
    at = np.arange(len(labels)) + (place - (count - 1) / 2) * width
    values = [np.nan if value is None else value for value in trace["y"]]
    errors = _errors(trace)
    colour = trace.get("marker", {}).get("color")
    grey = trace.get("error_y", {}).get("color")
    axes.bar(
        at,
        values,
        width,
        yerr=errors,
        capsize=2,
        ecolor=grey,
        color=colour,
        hatch=trace.get("marker", {}).get("pattern", {}).get("shape", ""),
        label=_name(trace),
    )
    axes.set_xticks(range(len(labels)), labels)


def _heat(axes: Axes, trace: Mapping[str, Any]) -> None:
    lines = [np.asarray(line, dtype=float) for line in trace["z"]]
    longest = max(line.size for line in lines)
    values = np.full((len(lines), longest), np.nan)
    for row, line in enumerate(lines):
        values[row, : line.size] = line
    places = list(trace.get("x") or range(longest))
    last = places[-1] + (places[1] - places[0] if len(places) > 1 else 1)
    shown = axes.imshow(
        values,
        aspect="auto",
        cmap="cividis",
        vmin=0.0,
        vmax=1.0,
        interpolation="nearest",
        extent=(places[0], last, len(lines) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(lines)), [str(label) for label in trace["y"]])
    axes.figure.colorbar(shown, ax=axes, label="kept", shrink=0.8)
