"""One episode as a figure: its return, and what was kept of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from namm_mm.results.styles import COLOURS, SCALE
from namm_mm.runs.history import History

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def episode_figure(history: History) -> Figure:
    """Plot one episode: the return so far above, kept returns, states and actions below."""
    from plotly.graph_objects import Figure

    fractions = history.kept()
    rows = {
        kind: [round(float(np.nanmean(group)), 3) for group in history.of_kind(kind, fractions)]
        for kind in history.kinds
    }
    plot = Figure()
    plot.add_heatmap(
        z=list(rows.values()), y=list(rows), zmin=0.0, zmax=1.0, colorscale=SCALE, ygap=3
    )
    plot.add_scatter(
        y=[round(float(total), 2) for total in np.cumsum(history.rewards)],
        yaxis="y2",
        mode="lines",
        line={"color": COLOURS[0]},
    )
    plot.update_layout(
        xaxis={"title": {"text": "step"}},
        yaxis={"domain": [0.0, 0.42], "autorange": "reversed"},
        yaxis2={"domain": [0.52, 1.0], "title": {"text": "return so far"}},
        showlegend=False,
    )
    return plot
