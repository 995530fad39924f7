"""The look of figures: colours that colour-blind readers can tell apart, and how traces differ."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from namm_mm.results.cells import Method
from namm_mm.results.statistics import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#999999")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "x", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
ROUNDS = ("solid", "dot", "dashdot")
PATTERNS = ("", "/", "x", ".", "-", "+", "|")
SCALE = "Cividis"
LEGEND_WIDTH = 40
"""Characters of one line of a legend."""


class Styles:
    """How each method is drawn, the same in all figures of a report.

    A policy has one colour. Its symbol tells runs apart where there are several, else policies; its
    dash and its pattern tell the budgets of one policy apart.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        self._policies = list(dict.fromkeys(method.policy for method in methods))
        self._runs = list(dict.fromkeys(method.run for method in methods))
        self._shown = tuple(methods)

    def within(self, methods: Iterable[Method]) -> Styles:
        """Return the same look for figures that show only `methods`, such as those of one cell."""
        styles = copy(self)
        styles._shown = tuple(methods)
        return styles

    def colour(self, method: Method) -> str:
        """Return the colour of the policy."""
        return COLOURS[self._policies.index(method.policy) % len(COLOURS)]

    def symbol(self, method: Method) -> str:
        """Return the symbol of the run, or of the policy where there is one run."""
        policy = self._policies.index(method.policy)
        place = policy + policy // len(COLOURS)
        if len(self._runs) > 1:
            place = self._runs.index(method.run) + policy // len(COLOURS)
        return SYMBOLS[place % len(SYMBOLS)]

    def dash(self, method: Method) -> str:
        """Return the dash of the budget."""
        return DASHES[self._variant(method) % len(DASHES)]

    def round_dash(self, method: Method) -> str:
        """Return the dash that tells apart policies of one colour, where there are many."""
        place = self._policies.index(method.policy) // len(COLOURS)
        return ROUNDS[place % len(ROUNDS)]

    def pattern(self, method: Method) -> str:
        """Return the pattern that fills a bar."""
        return PATTERNS[self._variant(method) % len(PATTERNS)]

    def _variant(self, method: Method) -> int:
        budgets = self._budgets(method)
        run = self._runs.index(method.run)
        round_of_colours = self._policies.index(method.policy) // len(COLOURS)
        return budgets.index(method.budget) + len(budgets) * run + round_of_colours

    def _budgets(self, method: Method) -> list[str]:
        return list(dict.fromkeys(m.budget for m in self._shown if m.policy == method.policy))

    def label(self, method: Method) -> str:
        """Return policy and budget, with the run where there are several."""
        return f"{method.label} ({method.run})" if len(self._runs) > 1 else method.label

    def bar(self, method: Method) -> dict[str, Any]:
        """Return the marker of a bar."""
        return {"color": self.colour(method), "pattern": {"shape": self.pattern(method)}}

    def short(self, method: Method) -> str:
        """Return the label without the budget where the policy has one budget alone."""
        one = len(self._budgets(method)) == 1
        return self.label(method._replace(budget="") if one else method)

    def joined(self, methods: Sequence[Method]) -> str:
        """Return one label for methods that look the same; what they share is said once."""
        by_tail: dict[str, dict[str, None]] = {}
        for method in methods:
            runs = [m.run for m in methods if m.policy == method.policy]
            one = len(self._budgets(method)) == 1
            tail = "" if one else method.label.removeprefix(method.policy)
            if len(self._runs) > 1:
                tail += f" ({', '.join(dict.fromkeys(runs))})"
            by_tail.setdefault(tail, {})[method.policy] = None
        return legend_label(
            "; ".join(f"{', '.join(policies)}{tail}" for tail, policies in by_tail.items())
        )


def legend_label(text: str) -> str:
    """Return a label as lines that fit into a legend."""
    return "<br>".join(textwrap.wrap(text, LEGEND_WIDTH, break_long_words=False))


def error_bars(intervals: Sequence[Interval | None]) -> dict[str, Any]:
    """Return the error bars of means with intervals; none where an interval has no ends."""
    known = [interval if interval and interval.known else None for interval in intervals]
    return {  # rounding can put an end on the other side of a mean of 0 or 1
        "array": [max(0.0, one.high - one.mean) if one else 0.0 for one in known],
        "arrayminus": [max(0.0, one.mean - one.low) if one else 0.0 for one in known],
        "thickness": 1.2,
        "width": 4,
    }


def plotly(
    data: Sequence[Mapping[str, Any]],
    *,
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
    **layout: Any,
) -> dict[str, Any]:
    """Return a Plotly figure with the common look; the page sets colours by its theme.

    Parameters
    ----------
    data
        Traces.
    x, y
        What the two axes have beside the common look; a title is text.
    layout
        Other properties of the layout.
    """
    return {
        "data": list(data),
        "layout": {
            "template": {},
            "margin": {"l": 60, "r": 16, "t": 8, "b": 48},
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 0,
                "yref": "container",
                "yanchor": "bottom",
            },
            "hovermode": "closest",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "barmode": "group",
            "xaxis": _axis(x or {}),
            "yaxis": _axis(y or {}),
            **layout,
        },
    }


def _axis(given: Mapping[str, Any]) -> dict[str, Any]:
    axis = {"automargin": True, "zeroline": False, **given}
    return {**axis, "title": {"text": axis["title"]}} if "title" in axis else axis
