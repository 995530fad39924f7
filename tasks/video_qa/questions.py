"""Questions about a scene, with four options each and the answer known by construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from namm_mm.tasks.video_qa.scenes import COLORS, SHAPES, SPLITS, Scene, pair_split

if TYPE_CHECKING:
    from numpy.random import Generator

OPTIONS = 4
ORDINALS = ("first", "second", "third")
MOST_EVENTS = 4

#: Each family of questions, and the world that it is asked about.
FAMILIES: dict[str, str] = {
    "shown": "events",
    "order": "events",
    "count": "events",
    "needle": "needle",
    "start": "wall",
}


@dataclass(frozen=True)
class Question:
    """A question, its options in order, and the index of the right one."""

    family: str
    text: str
    options: tuple[str, ...]
    answer: int


def families_of(scene: Scene) -> list[str]:
    """The families that can be asked about `scene`."""
    fits = {"shown": 2, "order": 2, "count": 1}
    return [
        family
        for family, world in FAMILIES.items()
        if world == scene.world and len(scene.events) >= fits.get(family, 0)
    ]


def ask(scene: Scene, family: str, rng: Generator, *, place: int | None = None) -> Question:
    """Ask about `scene`; the right option is put at `place`, or anywhere.

    Wrong options come first from what the clip shows elsewhere, so that seeing it is not enough.
    """
    text, answer, near, pool = _FORM[family](scene, rng)
    wrong = [str(v) for v in rng.permutation([v for v in near if v != answer])]
    rest = [v for v in pool if v != answer and v not in wrong]
    wrong = (wrong + [str(v) for v in rng.permutation(rest)])[: OPTIONS - 1]
    wrong = [str(v) for v in rng.permutation(wrong)]
    at = int(rng.integers(OPTIONS)) if place is None else place
    return Question(family, text, (*wrong[:at], answer, *wrong[at:]), at)


Form = tuple[str, str, list[str], list[str]]


def _shown(scene: Scene, rng: Generator) -> Form:
    events = scene.events
    event = events[int(rng.integers(len(events)))]
    # Options stay among what the split pairs with the asked value: otherwise the pairs that are
    # never trained could be ruled out, or in, without looking.
    split = pair_split(event.color, event.shape)
    if rng.random() < 0.5:
        fits = [c for c in COLORS if _fair(c, event.shape, split)]
        near = [e.color for e in events if e.color in fits]
        return f"What color was the {event.shape}?", event.color, near, fits
    fits = [s for s in SHAPES if _fair(event.color, s, split)]
    near = [e.shape for e in events if e.shape in fits]
    return f"What shape was {event.color}?", event.shape, near, fits


def _fair(color: str, shape: str, split: str) -> bool:
    return split != SPLITS[0] or pair_split(color, shape) == split


def _order(scene: Scene, rng: Generator) -> Form:
    count = min(len(scene.events), len(ORDINALS))
    which = int(rng.integers(count))
    kind = "color" if rng.random() < 0.5 else "shape"
    values = [getattr(e, kind) for e in scene.events]
    pool = list(COLORS) if kind == "color" else list(SHAPES)
    return f"Which {kind} appeared {ORDINALS[which]}?", values[which], values, pool


def _count(scene: Scene, rng: Generator) -> Form:
    numbers = [str(n) for n in range(1, MOST_EVENTS + 1)]
    return "How many objects appeared?", str(len(scene.events)), [], numbers


def _needle(scene: Scene, rng: Generator) -> Form:
    event = scene.events[0]
    if rng.random() < 0.5:
        return "Which color flashed by?", event.color, [], list(COLORS)
    return "Which shape flashed by?", event.shape, [], list(SHAPES)


def _start(scene: Scene, rng: Generator) -> Form:
    colors = [color for _, color in scene.walls]
    if len(colors) > 2 and rng.random() < 0.4:
        return "What color was the wall in the middle?", colors[1], colors, list(COLORS)
    return "What color was the wall at the start?", colors[0], colors, list(COLORS)


_FORM = {
    "shown": _shown,
    "order": _order,
    "count": _count,
    "needle": _needle,
    "start": _start,
}
