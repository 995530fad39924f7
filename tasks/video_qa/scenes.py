"""Rendered worlds to ask about: short events, one needle, or a wall that changes its colour.

A scene is a plain description; :class:`Renderer` turns any of its frames into pixels on its own,
so that a file can be encoded frame by frame and a training batch can draw the few frames it needs.
Most frames of a scene show nothing new, as in real video: sensor noise and a slow change of light
on a textured wall.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Pixels = NDArray[np.floating[Any]]

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
SPLITS = ("train", "validation", "test")
WORLDS = ("events", "needle", "wall")


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

    `walls` lists (first slot, colour) of each stretch of wall, the colour ``gray`` being neutral.
    """

    world: str
    walls: tuple[tuple[int, str], ...]
    events: tuple[Event, ...]
    seed: int

    def event_at(self, slot: int) -> int | None:
        """Index of the event that is visible in `slot`, if any."""
        for index, event in enumerate(self.events):
            if event.start <= slot < event.start + event.length:
                return index
        return None

    def wall_at(self, slot: int) -> str:
        """Colour of the wall in `slot`."""
        return [color for start, color in self.walls if start <= slot][-1]


def combination(scene: Scene) -> str:
    """What a scene shows, in words that leave out time, light and noise.

    The objects of a scene with their colours; for a needle also its place; for a wall its colours
    in order.
    """
    if scene.world == "wall":
        return " ".join(color for _, color in scene.walls)
    objects = sorted(f"{event.color} {event.shape}" for event in scene.events)
    if scene.world == "needle":
        objects += [f"{round(4 * v / SIZE)}" for v in (scene.events[0].x, scene.events[0].y)]
    return " ".join(objects)


def split_of(scene: Scene) -> str:
    """The split that owns a combination: a stable hash of it, 70 : 15 : 15."""
    bucket = zlib.crc32(f"{scene.world} {combination(scene)}".encode()) % 20
    return "test" if bucket >= 17 else "validation" if bucket >= 14 else "train"


def make_scene(world: str, split: str, rng: Generator, *, events: int | None = None) -> Scene:
    """Draw a scene whose combination belongs to `split`; `events` fixes how many objects appear."""
    count = events if events is not None else int(rng.choice(4, p=(0.1, 0.2, 0.35, 0.35))) + 1
    while True:
        scene = _draw(world, rng, count)
        if split_of(scene) == split:
            return scene


def _draw(world: str, rng: Generator, count: int) -> Scene:
    seed = int(rng.integers(2**31))
    if world == "wall":
        return Scene(world, _walls(rng), (), seed)
    if world == "needle":
        color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
        needle = Event(
            shape,
            color,
            int(rng.integers(1, SLOTS - 1)),
            1,
            *_place(rng),
            float(rng.uniform(9, 10)),
        )
        return Scene(world, ((0, "gray"),), (needle,), seed)
    # No two objects share a colour or a shape, so that one tells the other.
    colors, shapes = rng.permutation(list(COLORS))[:count], rng.permutation(SHAPES)[:count]
    lengths = rng.integers(1, 4, count)
    # Gaps of at least one empty slot, the rest spread at random before, between and after.
    spare = SLOTS - int(lengths.sum()) - (count + 1)
    cuts = np.sort(rng.integers(0, spare + 1, count))
    starts = cuts + np.concatenate([[0], np.cumsum(lengths)[:-1]]) + np.arange(1, count + 1)
    found = [
        Event(
            str(shapes[i]), str(colors[i]), int(starts[i]), int(lengths[i]),
            *_place(rng), float(rng.uniform(12, 14)),
        )
        for i in range(count)
    ]  # fmt: skip
    return Scene(world, ((0, "gray"),), tuple(found), seed)


def _place(rng: Generator) -> tuple[float, float]:
    """A point near one of nine places: a three by three grid, give or take two pixels."""
    x, y = SIZE / 4 * rng.integers(1, 4, 2) + rng.uniform(-2, 2, 2)
    return float(x), float(y)


def _walls(rng: Generator) -> tuple[tuple[int, str], ...]:
    """Two or three wall colours; the first ends in the first three quarters of the video."""
    count = int(rng.integers(2, 4))
    colors = [str(c) for c in rng.permutation(list(COLORS))[:count]]
    first = int(rng.integers(4, 18 if count == 3 else 24))
    starts = [0, first] if count == 2 else [0, first, int(rng.integers(first + 4, 25))]
    return tuple(zip(starts, colors, strict=True))


def _distance(shape: str, x: Pixels, y: Pixels, r: float) -> Pixels:
    """Signed distance to the outline in pixels, negative inside."""
    ax, ay = np.abs(x), np.abs(y)
    around: Pixels = np.hypot(x, y)
    if shape == "circle":
        return around - r
    distance: Pixels
    if shape == "ring":
        distance = np.abs(around - 0.75 * r) - 0.22 * r
        return distance
    sides: dict[str, tuple[Pixels, Pixels]] = {
        "square": (ax - 0.85 * r, ay - 0.85 * r),
        "triangle": (y - 0.75 * r, 0.87 * ax - 0.5 * y - 0.5 * r),
        "bar": (ax - r, ay - 0.32 * r),
    }
    if shape == "cross":
        bars = np.maximum(ax - 0.3 * r, ay - r), np.maximum(ay - 0.3 * r, ax - r)
        distance = np.minimum(*bars)
    else:
        distance = np.maximum(*sides[shape])
    return distance


class Renderer:
    """Draws frames of one scene, in any order and each as often as wanted with the same result."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        rng = np.random.default_rng(scene.seed)
        coarse = rng.normal(0.0, 1.0, (5, 5))
        grid = np.linspace(0, 3.999, SIZE)
        low = grid.astype(int)
        part = (grid - low)[:, None]
        rows = coarse[low] * (1 - part) + coarse[low + 1] * part
        texture = rows[:, low] * (1 - part.T) + rows[:, low + 1] * part.T
        self._texture = (12.0 * texture).astype(np.float32)[..., None]
        self._gray = float(rng.uniform(105, 150))
        self._light = rng.uniform(0, 2 * np.pi)
        axis = np.arange(SIZE, dtype=np.float32)
        self._x, self._y = axis[None, :], axis[:, None]

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame `index` as (height, width, 3) RGB."""
        slot = index // FRAMES_PER_SLOT
        wall = self.scene.wall_at(slot)
        base = np.full(3, self._gray, dtype=np.float32)
        if wall != "gray":
            base = 0.7 * np.asarray(COLORS[wall], dtype=np.float32) + 0.3 * base
        light = 4.0 * np.sin(self._light + 2 * np.pi * index / FRAMES)
        picture = base + self._texture + np.float32(light)
        found = self.scene.event_at(slot)
        if found is not None:
            event = self.scene.events[found]
            inside = np.clip(
                0.5 - _distance(event.shape, self._x - event.x, self._y - event.y, event.radius),
                0,
                1,
            )[..., None]
            picture = picture * (1 - inside) + np.asarray(COLORS[event.color], np.float32) * inside
        noise = np.random.default_rng((self.scene.seed, index)).normal(0, 2.5, (SIZE, SIZE, 1))
        drawn: NDArray[np.uint8] = np.clip(picture + noise, 0, 255).astype(np.uint8)
        return drawn
