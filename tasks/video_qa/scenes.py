"""Worlds to ask about: short events, a needle, coloured walls, an object that comes twice, footage.

A scene is a plain description; :class:`namm_mm.tasks.video_qa.render.Renderer` turns any of its
frames into pixels. Most frames of a scene show nothing new, as in real video, and what a question
is about is short: an event lasts one or two slots.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.tasks.video_qa.footage import SHOTS, Cut, draw_cut

if TYPE_CHECKING:
    from numpy.random import Generator

SIZE = 64
SLOTS = 32
FRAMES_PER_SLOT = 2
FRAMES = SLOTS * FRAMES_PER_SLOT
FRAMES_PER_SECOND = 8

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 34),
    "yellow": (232, 214, 40),
    "green": (36, 160, 52),
    "cyan": (50, 205, 214),
    "blue": (38, 62, 206),
    "pink": (226, 88, 196),
    "white": (244, 244, 240),
    "black": (18, 18, 22),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
ATTRIBUTES = ("color", "shape", "size", "place")
SPLITS = ("train", "validation", "test")
WORLDS = ("events", "needle", "wall", "pair", "reel", "overlay")
SMALL, LARGE = (8.0, 9.0), (13.0, 14.0)
"""Radii in pixels, from and to, of objects that may change their size."""

_SHORTEST = {"events": 16, "needle": 4, "wall": 8, "pair": 8, "reel": 12, "overlay": 4}


@dataclass(frozen=True)
class Event:
    """A coloured shape that is visible for a few frames.

    `start` and `length` count slots of `FRAMES_PER_SLOT` frames; `x`, `y` and `radius` are pixels.
    """

    shape: str
    color: str
    start: int
    length: int
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """One video before it is drawn.

    Attributes
    ----------
    walls
        (first slot, colour) of each stretch of wall, the colour ``gray`` being neutral; empty where
        real footage is behind.
    cuts
        Stretches of real footage, in order.
    slots
        Length of the video in slots.
    """

    world: str
    walls: tuple[tuple[int, str], ...]
    events: tuple[Event, ...]
    seed: int
    slots: int = SLOTS
    cuts: tuple[Cut, ...] = ()

    @property
    def frames(self) -> int:
        """Length of the video in frames."""
        return self.slots * FRAMES_PER_SLOT

    def event_at(self, slot: int) -> int | None:
        """Return the index of the event that is visible in `slot`, if any."""
        for index, event in enumerate(self.events):
            if event.start <= slot < event.start + event.length:
                return index
        return None

    def wall_at(self, slot: int) -> str:
        """Return the colour of the wall in `slot`; empty in front of footage."""
        return ([""] + [color for start, color in self.walls if start <= slot])[-1]

    def cut_at(self, slot: int) -> int | None:
        """Return the index of the stretch of footage in `slot`, if any."""
        started = [index for index, cut in enumerate(self.cuts) if cut.start <= slot]
        return started[-1] if started else None

    def changed(self) -> str:
        """Return what differs at the second appearance of a pair."""
        one, other = self.events
        if one.color != other.color:
            return "color"
        if one.shape != other.shape:
            return "shape"
        return "size" if one.radius != other.radius else "place"


def combination(scene: Scene) -> str:
    """Return what a scene shows, in words that leave out time, light and noise.

    The objects of a scene with their colours; for a needle also its place; for a wall its colours
    in order; for a pair both appearances, in order.
    """
    if scene.world == "wall":
        return " ".join(color for _, color in scene.walls)
    objects = [f"{event.color} {event.shape}" for event in scene.events]
    if scene.world != "pair":
        objects.sort()
    if scene.world in ("needle", "overlay", "pair"):
        objects += [f"{round(4 * v / SIZE)}" for e in scene.events for v in (e.x, e.y)]
    return " ".join(objects)


def split_of(scene: Scene) -> str:
    """Return the split that owns a scene.

    That is a stable hash of its combination, 70 : 15 : 15; where there is footage and nothing else,
    the split that owns the footage.
    """
    if scene.world == "reel":
        return scene.cuts[0].split
    bucket = zlib.crc32(f"{scene.world} {combination(scene)}".encode()) % 20
    return "test" if bucket >= 17 else "validation" if bucket >= 14 else "train"


def make_scene(
    world: str, split: str, rng: Generator, *, events: int | None = None, slots: int | None = None
) -> Scene:
    """Return a random scene of `split`.

    Parameters
    ----------
    world
        One of `WORLDS`.
    events
        How many objects (or stretches of footage) appear; None draws it.
    slots
        Length of the video; None draws it: mostly the full length.
    """
    if slots is None:
        short = rng.random() < 0.3
        slots = int(rng.integers(_SHORTEST[world], SLOTS)) if short else SLOTS
    slots = max(slots, _SHORTEST[world])
    count = events if events is not None else int(rng.choice(4, p=(0.1, 0.2, 0.35, 0.35))) + 1
    while True:
        scene = _draw(world, split, rng, count, slots)
        if split_of(scene) == split:
            return scene


def make_film(split: str, rng: Generator, *, parts: int, slots: int) -> Scene:
    """Return a long scene of `split` with one or two objects in each of `parts` equal parts.

    The first part has two. No two objects share a colour or a shape, as in the world ``events``.
    """
    length, count = slots // parts, parts + 1
    while True:
        seed = int(rng.integers(2**31))
        colors, shapes = rng.permutation(list(COLORS))[:count], rng.permutation(SHAPES)[:count]
        first, room = [1, length // 2 + 1], length // 2 - 2  # halves of the first part
        starts = [at + int(rng.integers(room)) for at in first]
        starts += [length * part + 1 + int(rng.integers(length - 3)) for part in range(1, parts)]
        found = [
            Event(
                str(shapes[i]), str(colors[i]), starts[i], int(rng.choice([1, 1, 2])),
                *_place(rng), float(rng.uniform(12, 14)),
            )
            for i in range(count)
        ]  # fmt: skip
        scene = Scene("events", ((0, "gray"),), tuple(found), seed, slots)
        if split_of(scene) == split:
            return scene


def _draw(world: str, split: str, rng: Generator, count: int, slots: int) -> Scene:
    seed = int(rng.integers(2**31))
    if world == "wall":
        return Scene(world, _walls(rng, slots), (), seed, slots)
    if world == "reel":
        return Scene(world, (), (), seed, slots, _reel(split, rng, max(count, 2), slots))
    gray = ((0, "gray"),)
    if world in ("needle", "overlay"):
        start = int(rng.integers(1, slots - 1))
        needle = _event(rng, start, 1, float(rng.uniform(9, 10)))
        if world == "needle":
            return Scene(world, gray, (needle,), seed, slots)
        behind = draw_cut(rng.choice(list(SHOTS)), 0, split, rng)
        return Scene(world, (), (needle,), seed, slots, (behind,))
    if world == "pair":
        return Scene(world, gray, _pair(rng, slots), seed, slots)
    # No two objects share a colour or a shape, so that one tells the other.
    colors, shapes = rng.permutation(list(COLORS))[:count], rng.permutation(SHAPES)[:count]
    lengths = rng.choice([1, 1, 2], count)
    starts = _starts(rng, lengths, slots)
    found = [
        Event(
            str(shapes[i]), str(colors[i]), int(starts[i]), int(lengths[i]),
            *_place(rng), float(rng.uniform(12, 14)),
        )
        for i in range(count)
    ]  # fmt: skip
    return Scene(world, gray, tuple(found), seed, slots)


def _event(rng: Generator, start: int, length: int, radius: float) -> Event:
    color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
    return Event(shape, color, start, length, *_place(rng), radius)


def _starts(rng: Generator, lengths: np.ndarray, slots: int) -> np.ndarray:
    """Return first slots with gaps of at least one; the rest is spread at random."""
    count = len(lengths)
    spare = slots - int(lengths.sum()) - (count + 1)
    cuts = np.sort(rng.integers(0, spare + 1, count))
    starts = cuts + np.concatenate([[0], np.cumsum(lengths)[:-1]]) + np.arange(1, count + 1)
    return np.asarray(starts)


def _place(rng: Generator) -> tuple[float, float]:
    """Return a point near one of nine places: a three by three grid, within two pixels."""
    x, y = SIZE / 4 * rng.integers(1, 4, 2) + rng.uniform(-2, 2, 2)
    return float(x), float(y)


def _pair(rng: Generator, slots: int) -> tuple[Event, Event]:
    """Return one object that comes twice, the second time with one attribute changed."""
    lengths = rng.choice([1, 1, 2], 2)
    starts = _starts(rng, lengths, slots)
    large = bool(rng.integers(2))
    one = _event(rng, int(starts[0]), int(lengths[0]), float(rng.uniform(*(SMALL, LARGE)[large])))
    other = replace(one, start=int(starts[1]), length=int(lengths[1]))
    attribute = ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))]
    if attribute == "color":
        other = replace(other, color=str(rng.choice([c for c in COLORS if c != one.color])))
    elif attribute == "shape":
        other = replace(other, shape=str(rng.choice([s for s in SHAPES if s != one.shape])))
    elif attribute == "size":
        other = replace(other, radius=float(rng.uniform(*(LARGE, SMALL)[large])))
    else:
        while abs(other.x - one.x) + abs(other.y - one.y) < 0.4 * SIZE:
            x, y = _place(rng)
            other = replace(other, x=x, y=y)
    return one, other


def _walls(rng: Generator, slots: int) -> tuple[tuple[int, str], ...]:
    """Return two or three wall colours; the last one lasts longest."""
    count = int(rng.integers(2, 4))
    colors = [str(c) for c in rng.permutation(list(COLORS))[:count]]
    starts = [0, int(rng.integers(1, slots // 3 + 1))]
    if count == 3:
        starts.append(starts[1] + int(rng.integers(1, slots // 4 + 1)))
    return tuple(zip(starts, colors, strict=True))


def _reel(split: str, rng: Generator, count: int, slots: int) -> tuple[Cut, ...]:
    """Return shots one after the other; all but one last only a few slots."""
    names = [str(name) for name in rng.permutation(list(SHOTS))[:count]]
    lengths = rng.integers(1, 4, count)
    lengths[rng.integers(count)] += slots - int(lengths.sum())
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return tuple(
        draw_cut(name, int(start), split, rng) for name, start in zip(names, starts, strict=True)
    )
