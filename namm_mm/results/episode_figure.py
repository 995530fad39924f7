"""One episode as a figure: its return, and what was kept of its tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from namm_mm.results.styles import COLOURS, SCALE, plotly
from namm_mm.runs.history import History


def episode_figure(history: History) -> dict[str, Any]:
    """Return a Plotly figure: the return so far above; kept returns, states and actions below."""
    fractions = history.kept()
    rows = {
        kind: [round(float(np.nanmean(group)), 3) for group in history.of_kind(kind, fractions)]
        for kind in history.kinds
    }
    heat = {
        "type": "heatmap",
        "z": list(rows.values()),
        "y": list(rows),
        "zmin": 0.0,
        "zmax": 1.0,
        "colorscale": SCALE,
        "ygap": 3,
    }
    line = {
        "type": "scatter",
        "y": [round(float(total), 2) for total in np.cumsum(history.rewards)],
        "yaxis": "y2",
        "mode": "lines",
        "line": {"color": COLOURS[0]},
    }
    return plotly(
        [heat, line],
        x={"title": "step"},
        y={"domain": [0.0, 0.42], "autorange": "reversed"},
        yaxis2={"domain": [0.52, 1.0], "title": {"text": "return so far"}},
        showlegend=False,
    )
