"""Documents to ask about: tables, bar charts, forms, and objects laid out on a page.

Each document has a title, and each question names one. The other documents of a sample are
distractors of the same kind: their values are wrong options.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.random import Generator

SIZE = (448, 336)
KINDS = ("table", "chart", "form", "layout")
OPTIONS = 4
MOST_PAGES = 4

TITLES = (
    *("Rosewood", "Harbour", "Meadow", "Station", "Orchard", "Castle", "Riverside", "Summit"),
    *("Lakeview", "Market", "Garden", "Bridge"),
)
ITEMS = (
    *("apples", "bread", "candles", "dates", "eggs", "flour", "grapes", "honey", "ink", "jam"),
    *("kettles", "lemons", "mugs", "nuts", "olives", "paper", "rice", "soap", "tea", "wool"),
)
PEOPLE = ("Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas")
CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Turin", "Delhi", "Perth", "Kyoto", "Porto", "Accra")
COLORS = {
    "red": "#d62622",
    "yellow": "#e8d628",
    "green": "#24a034",
    "blue": "#263ece",
    "pink": "#e258c4",
    "black": "#121216",
}
PLACES = ("top left", "top right", "bottom left", "bottom right")
FIELDS = {"name": PEOPLE, "city": CITIES}


@dataclass(frozen=True)
class Document:
    """One page before it is drawn.

    Attributes
    ----------
    kind
        One of `KINDS`.
    title
        Printed at the top.
    rows
        Names and values: items and prices, bars and heights, fields and entries, places and
        colours.
    """

    kind: str
    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Question:
    """A question about the pages of a sample.

    Attributes
    ----------
    text
        What is asked.
    options, answer
        The options in order, and the index of the right one.
    page
        Index of the page that holds the answer.
    """

    text: str
    options: tuple[str, ...]
    answer: int
    page: int


def split_of(document: Document) -> str:
    """Return the split that owns a document: a stable hash of its content, 70 : 15 : 15."""
    bucket = zlib.crc32(repr(document).encode()) % 20
    return "test" if bucket >= 17 else "validation" if bucket >= 14 else "train"


def make_documents(kind: str, split: str, rng: Generator) -> tuple[Document, ...]:
    """Return 1 to 4 documents of `split` with titles that differ."""
    count = int(rng.integers(1, MOST_PAGES + 1))
    return tuple(_draw(kind, str(title), split, rng) for title in rng.permutation(TITLES)[:count])


def _draw(kind: str, title: str, split: str, rng: Generator) -> Document:
    while True:
        document = Document(kind, title, _rows(kind, rng))
        if split_of(document) == split:
            return document


def _rows(kind: str, rng: Generator) -> tuple[tuple[str, str], ...]:
    if kind == "form":
        entries = {name: str(rng.choice(pool)) for name, pool in FIELDS.items()}
        entries["year"] = str(rng.integers(1950, 2010))
        return tuple(entries.items())
    if kind == "layout":
        return tuple(zip(PLACES, map(str, rng.permutation(list(COLORS))), strict=False))
    count = int(rng.integers(OPTIONS, 7))
    items = [str(item) for item in rng.permutation(ITEMS)[:count]]
    values = [str(value) for value in rng.permutation(range(10, 100))[:count]]
    return tuple(zip(items, values, strict=True))


def ask(documents: tuple[Document, ...], rng: Generator, place: int) -> Question:
    """Return a question about one of `documents`, its right option at `place`."""
    page = int(rng.integers(len(documents)))
    asked = documents[page]
    row = int(rng.integers(len(asked.rows)))
    name, value = asked.rows[row]
    if asked.kind == "chart":
        text = f"Which bar of the chart {asked.title} is the highest?"
        value = max(asked.rows, key=lambda one: int(one[1]))[0]
        pool = [one for document in documents for one, _ in document.rows]
    else:
        text = {
            "table": f"How much do {name} cost in the table {asked.title}?",
            "form": f"What is the {name} on the form {asked.title}?",
            "layout": f"What color is at the {name} of the page {asked.title}?",
        }[asked.kind]
        pool = _pool(documents, name)
    wrong = list(dict.fromkeys(one for one in pool if one != value))[: OPTIONS - 1]
    wrong = [str(one) for one in rng.permutation(wrong)]
    return Question(text, (*wrong[:place], value, *wrong[place:]), place, page)


def _pool(documents: tuple[Document, ...], name: str) -> list[str]:
    """Wrong options: what other pages say of the same, what is nearby, and what could be."""
    kind = documents[0].kind
    same = [value for document in documents for key, value in document.rows if key == name]
    if kind == "form":
        known = FIELDS.get(name, tuple(str(year) for year in range(1961, 2001, 13)))
        return [*same, *known]
    near = [value for document in documents for _, value in document.rows]
    return [*same, *near, *(COLORS if kind == "layout" else ())]


def draw(document: Document) -> Image.Image:
    """Return the page as an RGB picture."""
    page = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(page)
    pen.text((20, 12), document.title, "black", ImageFont.load_default(30))
    small = ImageFont.load_default(24)
    if document.kind == "chart":
        _draw_bars(pen, document, small)
    elif document.kind == "layout":
        for number, (_, color) in enumerate(document.rows):
            x, y = 60 + 220 * (number % 2), 75 + 130 * (number // 2)
            pen.ellipse((x, y, x + 100, y + 100), COLORS[color])
    else:
        for number, (name, value) in enumerate(document.rows):
            y = 66 + 42 * number
            pen.line((20, y, SIZE[0] - 20, y), "gray")
            pen.text((30, y + 6), name, "black", small)
            pen.text((280, y + 6), value, "black", small)
    return page


def _draw_bars(
    pen: ImageDraw.ImageDraw, document: Document, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    for number, (name, value) in enumerate(document.rows):
        y = 66 + 42 * number
        pen.text((20, y), name, "black", font)
        pen.rectangle((140, y, 140 + 2.8 * int(value), y + 28), "#263ece")
