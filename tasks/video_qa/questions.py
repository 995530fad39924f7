"""Questions about a scene, with four options each and the answer known by construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from namm_mm.tasks.video_qa.footage import SHOTS
from namm_mm.tasks.video_qa.scenes import ATTRIBUTES, COLORS, SHAPES, Event, Scene

if TYPE_CHECKING:
    from numpy.random import Generator

OPTIONS = 4
ORDINALS = ("first", "second", "third")
MOST_EVENTS = 4

#: Each family of questions, and the world that it is asked about.
FAMILIES: dict[str, str] = {
    "shown": "events",
    "order": "events",
    "last": "events",
    "count": "events",
    "unseen": "events",
    "needle": "needle",
    "start": "wall",
    "changed": "pair",
    "reel": "reel",
    "overlay": "overlay",
}
REAL = ("reel", "overlay")
"""Families over real footage: they need :mod:`namm_mm.tasks.video_qa.footage`'s package."""

COVERED = ("shown", "order", "last", "count", "unseen", "needle", "start")
"""Families that are asked if nothing else is said: those that the bundled model has learned."""

LEAST_EVENTS = {"shown": 2, "order": 2, "last": 2, "unseen": OPTIONS - 1}
"""How many objects a scene must have for some families; 1 for the others."""


@dataclass(frozen=True)
class Question:
    """A question, its options in order, and the index of the right one.

    `evidence` are the slots that show the answer: a memory that keeps nothing of them cannot know.
    `shown` says of each option whether the clip shows it, where the options are things to see.
    """

    family: str
    text: str
    options: tuple[str, ...]
    answer: int
    evidence: tuple[int, ...]
    shown: tuple[bool, ...] = ()


def families_of(scene: Scene) -> list[str]:
    """Return the families that can be asked about `scene`."""
    return [
        family
        for family, world in FAMILIES.items()
        if world == scene.world and len(scene.events) >= LEAST_EVENTS.get(family, 0)
    ]


def ask(scene: Scene, family: str, rng: Generator, *, place: int | None = None) -> Question:
    """Return a question about `scene`; the right option is put at `place`, or anywhere.

    Wrong options come first from what the clip shows elsewhere, so that seeing it is not enough.
    """
    form = _FORM[family](scene, rng)
    wrong = [str(v) for v in rng.permutation([v for v in form.near if v != form.answer])]
    rest = [v for v in form.pool if v != form.answer and v not in wrong]
    wrong = (wrong + [str(v) for v in rng.permutation(rest)])[: OPTIONS - 1]
    wrong = [str(v) for v in rng.permutation(wrong)]
    at = int(rng.integers(OPTIONS)) if place is None else place
    options = (*wrong[:at], form.answer, *wrong[at:])
    seen = (*form.near, form.answer) if form.truth is None else form.truth
    shown = tuple(option in seen for option in options) if form.near else ()
    return Question(family, form.text, options, at, tuple(form.evidence), shown)


class _Form(NamedTuple):
    """A question before its options: wrong ones are taken from `near` first, then from `pool`.

    `near` are things that the clip shows; `truth` are all that it shows, where the answer is none.
    """

    text: str
    answer: str
    near: list[str]
    pool: list[str]
    evidence: list[int]
    truth: list[str] | None = None


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
    kind, values, pool = _either(scene, rng)
    text = f"Which {kind} appeared {ORDINALS[which]}?"
    return _Form(text, values[which], values, pool, _slots(scene.events[which]))


def _last(scene: Scene, rng: Generator) -> _Form:
    kind, values, pool = _either(scene, rng)
    event = scene.events[-1]
    return _Form(f"Which {kind} appeared last?", values[-1], values, pool, _slots(event))


def _unseen(scene: Scene, rng: Generator) -> _Form:
    kind, values, pool = _either(scene, rng)
    answer = str(rng.choice([value for value in pool if value not in values]))
    evidence = _slots(*scene.events)
    return _Form(f"Which {kind} did not appear?", answer, values, [], evidence, truth=values)


def _either(scene: Scene, rng: Generator) -> tuple[str, list[str], list[str]]:
    """Return colour or shape, those of the events, and all there are."""
    kind, pool = ("color", list(COLORS)) if rng.random() < 0.5 else ("shape", list(SHAPES))
    return kind, [getattr(event, kind) for event in scene.events], pool


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
    evidence = list(range(starts[which], (*starts, scene.slots)[which + 1]))
    text = f"What color was the wall {words}?"
    return _Form(text, colors[which], colors, list(COLORS), evidence)


def _changed(scene: Scene, rng: Generator) -> _Form:
    return _Form("What changed?", scene.changed(), [], list(ATTRIBUTES), _slots(*scene.events))


def _reel(scene: Scene, rng: Generator) -> _Form:
    names = [cut.shot for cut in scene.cuts]
    words = [*ORDINALS[: len(names) - 1], "last"]
    which = int(rng.integers(len(names)))
    starts = [*(cut.start for cut in scene.cuts), scene.slots]
    evidence = list(range(starts[which], starts[which + 1]))
    text = f"Which scene came {words[which]}?"
    return _Form(text, names[which], names, list(SHOTS), evidence)


_FORM = {
    "shown": _shown,
    "order": _order,
    "last": _last,
    "count": _count,
    "unseen": _unseen,
    "needle": _needle,
    "start": _start,
    "changed": _changed,
    "reel": _reel,
    "overlay": _needle,
}
