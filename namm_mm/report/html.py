"""A report as one HTML file that needs nothing else: no network, no account, no other file."""

from __future__ import annotations

import base64
import gzip
import json
from html import escape
from importlib.resources import files

from namm_mm.results import blocks
from namm_mm.runs.history import History

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""What the page may load: nothing. The browser itself enforces that it works offline."""

PACKING = 6
"""Level of gzip: 9 saves 6 % of the bytes and takes eleven times as long."""


def render(report: blocks.Report) -> str:
    """Return the page."""
    found = [block for section in report.sections for block in section.blocks]
    drawn = blocks.Figure | blocks.Samples | blocks.Histories
    has_figures = any(isinstance(block, drawn) for block in found)
    has_histories = any(isinstance(block, blocks.Histories) for block in found)
    navigation = "".join(
        f'<li><a href="#{escape(s.anchor)}">{escape(s.title)}</a></li>' for s in report.sections
    )
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title>",
        f"<style>{_asset('page.css')}</style>",
        "</head>",
        "<body>",
        '<a class="skip" href="#results">Skip to the results</a>',
        "<header>",
        f"<h1>{escape(report.title)}</h1>",
        f"<p>{escape(report.subtitle)}</p>",
        '<button id="theme" type="button">Light / dark</button>',
        f'<nav aria-label="Sections"><ul>{navigation}</ul></nav>',
        "</header>",
        "<main>",
        *map(_section, report.sections),
        "</main>",
        f"<script>{_plotly() if has_figures else ''}</script>",
        f"<script>{_asset('page.js')}{_asset('histories.js') if has_histories else ''}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _section(section: blocks.Section) -> str:
    body = "\n".join(
        _block(block, f"{section.anchor}-{index}") for index, block in enumerate(section.blocks)
    )
    anchor = escape(section.anchor)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n'
        f'<h2 id="{anchor}-title">{escape(section.title)}</h2>\n{body}\n</section>'
    )


def _block(block: blocks.Block, anchor: str) -> str:
    match block:
        case blocks.Text():
            return f"<p>{escape(block.text)}</p>"
        case blocks.Notice():
            kind = "warning" if block.warning else "note"
            return f'<p class="notice {kind}" role="note">{escape(block.text)}</p>'
        case blocks.Table():
            return _table(block, anchor)
        case blocks.Figure():
            return _figure(block, anchor)
        case blocks.Facts():
            pairs = "".join(
                f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in block.pairs
            )
            title = escape(block.title)
            return f'<div class="facts"><h3>{title}</h3>\n<dl>{pairs}</dl></div>'
        case blocks.Samples():
            return _samples(block, anchor)
        case blocks.Histories():
            return _histories(block, anchor)


def _table(table: blocks.Table, anchor: str) -> str:
    head = "".join(_heading(column) for column in table.columns)
    body = "\n".join(
        "<tr>" + "".join(_entry(e, c) for e, c in zip(row, table.columns, strict=True)) + "</tr>"
        for row in table.rows
    )
    name = escape(anchor)
    summary = f"<p>{escape(table.summary)}</p>\n" if table.summary else ""
    note = f'<p class="small">{escape(table.note)}</p>' if table.note else ""
    kind = "table listing" if table.listing else "table"
    return (
        f'<div class="{kind}">\n<h3 id="{name}-title">{escape(table.title)}</h3>\n{summary}'
        f'<div class="scroll" role="region" aria-labelledby="{name}-title" tabindex="0">\n'
        f'<table id="{name}" class="sortable" aria-labelledby="{name}-title">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n"
        f'<p class="hint" hidden>Scroll sideways for more columns.</p>\n{note}</div>'
    )


def _heading(column: blocks.Column) -> str:
    numeric = ' class="number"' if column.numeric else ""
    hint = f' title="{escape(column.help)}"' if column.help else ""
    return (
        f'<th scope="col"{numeric} aria-sort="none">'
        f'<button type="button"{hint}>{escape(column.name)}</button></th>'
    )


def _entry(entry: blocks.Entry, column: blocks.Column) -> str:
    numeric = ' class="number"' if column.numeric else ""
    value = "" if entry.value is None and column.numeric else entry.value
    key = escape(str(entry.text if value is None else value))
    text = f"<strong>{escape(entry.text)}</strong>" if entry.strong else escape(entry.text)
    kind = ' class="warning"' if entry.warning else ""
    detail = f"<small{kind}>{_parts(entry.detail)}</small>" if entry.detail else ""
    return f'<td{numeric} data-key="{key}">{text}{detail}</td>'


def _parts(detail: str) -> str:
    """The parts of a detail, between which a line may end; an interval is one part."""
    parts = [detail] if detail.startswith("[") else detail.split(", ")
    return ", ".join(f"<span>{escape(part)}</span>" for part in parts)


def _figure(figure: blocks.Figure, anchor: str) -> str:
    plot = json.dumps({**figure.plot, "title": figure.title}, allow_nan=False)
    return (
        f'<figure class="chart{" wide" if figure.wide else ""}">\n<h3>{escape(figure.title)}</h3>\n'
        f'<div class="plot" id="{escape(anchor)}" role="img" style="height:{figure.height}px" '
        f'aria-label="{escape(figure.title)}. {escape(figure.description)}">'
        f'<script type="application/json">{_inert(plot)}</script></div>\n'
        f"<figcaption>{escape(figure.description)}</figcaption>\n"
        f"<details><summary>The numbers</summary>\n{_table(figure.table, anchor + '-table')}\n"
        "</details>\n</figure>"
    )


def _samples(samples: blocks.Samples, anchor: str) -> str:
    views = list(map(vars, samples.views))
    longest = max((len(view.rows) for view in samples.views), default=0)
    name = escape(anchor)
    return (
        f'<figure class="samples">\n<h3>{escape(samples.title)}</h3>\n'
        f"<p>{escape(samples.description)}</p>\n"
        f'<label for="{name}-slider">Sample</label>\n'
        f'<input id="{name}-slider" type="range" min="0" max="{len(views) - 1}" value="0">\n'
        f'<output for="{name}-slider">{escape(samples.views[0].name)}</output>\n'
        f'<dl aria-live="polite"></dl>\n<div class="tiles"></div>\n'
        f'<div class="strip" id="{name}" role="img" style="height:{110 + 26 * longest}px"></div>\n'
        f'<script type="application/json">{_inert(json.dumps(views, allow_nan=False))}</script>\n'
        "</figure>"
    )


def _histories(block: blocks.Histories, anchor: str) -> str:
    data = json.dumps([_history_view(view) for view in block.views], allow_nan=False)
    name = escape(anchor)
    samples = "".join(
        f'<option value="{place}">{escape(view.name)}</option>'
        for place, view in enumerate(block.views)
    )
    sliders = "".join(
        f'<label for="{name}-{what}">{words}</label>'
        f'<input id="{name}-{what}" data-what="{what}" type="range" min="0" max="0" value="0">'
        f'<output for="{name}-{what}"></output>'
        for what, words in (("update", "Time"), ("layer", "Layer"), ("head", "Head"))
    )
    return (
        f'<figure class="histories" id="{name}">\n<h3>{escape(block.title)}</h3>\n'
        f"<p>{escape(block.description)}</p>\n"
        f'<div class="controls" role="group" aria-label="{escape(block.title)}">'
        f'<label for="{name}-sample">Sample</label>'
        f'<select id="{name}-sample" data-what="sample">{samples}</select>'
        f'<label for="{name}-policy">Policy</label>'
        f'<select id="{name}-policy" data-what="policy"></select>{sliders}</div>\n'
        f'<dl></dl>\n<p class="now" role="status" aria-live="polite"></p>\n'
        f'<div class="stage"></div>\n'
        f'<script type="application/json">{_inert(data)}</script>\n</figure>'
    )


def _history_view(view: blocks.HistoryView) -> dict[str, object]:
    pieces = next((c.history.pieces for c in view.histories if c.history.pieces), ())
    return {
        "name": view.name,
        "about": view.about,
        "form": view.form,
        "frames": view.frames,
        "pieces": pieces if view.form == "text" else (),
        "histories": [
            {
                "policy": one.policy,
                "answer": one.answer,
                "seen": one.history.seen,
                "layers": one.history.layers,
                "heads": one.history.forgotten.shape[1],
                "tokens": one.history.tokens,
                "kinds": one.history.kinds,
                "returns": _returns(one.history),
                "packed": _packed(one.history),
            }
            for one in view.histories
        ],
    }


def _returns(history: History) -> list[float]:
    total, returns = 0.0, []
    for reward in history.rewards:
        total += reward
        returns.append(round(total, 2))
    return returns


def _packed(history: History) -> str:
    """Forgotten, index, row, column and kind of the tokens, little-endian, for the page."""
    none = 0 * history.index - 1
    parts = (
        history.forgotten.astype("<u2"),
        history.index.astype("<i4"),
        (history.row if history.row.size else none).astype("<i2"),
        (history.column if history.column.size else none).astype("<i2"),
        history.kind.astype("u1"),
    )
    return base64.b64encode(
        gzip.compress(b"".join(part.tobytes() for part in parts), PACKING, mtime=0)
    ).decode("ascii")


def _inert(text: str) -> str:
    """Make JSON safe inside a script element: no text in it can end the element."""
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (files("namm_mm.report") / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
