"""Questions about a scene, with four options each and the answer known by construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from namm_mm.tasks.video_qa.scenes import COLORS, SHAPES, SLOTS, Event, Scene

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
    """A question, its options in order, and the index of the right one.

    `evidence` are the slots that show the answer: a memory that keeps nothing of them cannot know.
    """

    family: str
    text: str
    options: tuple[str, ...]
    answer: int
    evidence: tuple[int, ...]


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
    form = _FORM[family](scene, rng)
    wrong = [str(v) for v in rng.permutation([v for v in form.near if v != form.answer])]
    rest = [v for v in form.pool if v != form.answer and v not in wrong]
    wrong = (wrong + [str(v) for v in rng.permutation(rest)])[: OPTIONS - 1]
    wrong = [str(v) for v in rng.permutation(wrong)]
    at = int(rng.integers(OPTIONS)) if place is None else place
    options = (*wrong[:at], form.answer, *wrong[at:])
    return Question(family, form.text, options, at, tuple(form.evidence))


class _Form(NamedTuple):
    """A question before its options: wrong ones are taken from `near` first, then from `pool`."""

    text: str
    answer: str
    near: list[str]
    pool: list[str]
    evidence: list[int]


def _slots(*events: Event) -> list[int]:
    return [slot for e in events for slot in range(e.start, e.start + e.length)]


def _shown(scene: Scene, rng: Generator) -> _Form:
    events = scene.events
    event = events[int(rng.integers(len(events)))]
    if rng.random() < 0.5:
        near, text = [e.color for e in events], f"What color was the {event.shape}?"
        return _Form(text, event.color, near, list(COLORS), _slots(event))
    near, text = [e.shape for e in events], f"What shape was {event.color}?"
    return _Form(text, event.shape, near, list(SHAPES), _slots(event))


def _order(scene: Scene, rng: Generator) -> _Form:
    which = int(rng.integers(min(len(scene.events), len(ORDINALS))))
    kind = "color" if rng.random() < 0.5 else "shape"
    values = [getattr(e, kind) for e in scene.events]
    pool = list(COLORS) if kind == "color" else list(SHAPES)
    text = f"Which {kind} appeared {ORDINALS[which]}?"
    return _Form(text, values[which], values, pool, _slots(scene.events[which]))


def _count(scene: Scene, rng: Generator) -> _Form:
    numbers = [str(n) for n in range(1, MOST_EVENTS + 1)]
    answer = str(len(scene.events))
    return _Form("How many objects appeared?", answer, [], numbers, _slots(*scene.events))


def _needle(scene: Scene, rng: Generator) -> _Form:
    event = scene.events[0]
    if rng.random() < 0.5:
        return _Form("Which color flashed by?", event.color, [], list(COLORS), _slots(event))
    return _Form("Which shape flashed by?", event.shape, [], list(SHAPES), _slots(event))


def _start(scene: Scene, rng: Generator) -> _Form:
    starts, colors = [start for start, _ in scene.walls], [color for _, color in scene.walls]
    middle = len(colors) > 2 and rng.random() < 0.4
    which, words = (1, "in the middle") if middle else (0, "at the start")
    evidence = list(range(starts[which], (*starts, SLOTS)[which + 1]))
    text = f"What color was the wall {words}?"
    return _Form(text, colors[which], colors, list(COLORS), evidence)


_FORM = {
    "shown": _shown,
    "order": _order,
    "count": _count,
    "needle": _needle,
    "start": _start,
}
