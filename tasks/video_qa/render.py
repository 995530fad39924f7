"""Frames of a scene as pixels: shapes on a textured wall or over real footage, light and noise.

Any frame can be drawn on its own, so that a file is encoded frame by frame and a training batch
draws the few frames it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.tasks.video_qa import footage
from namm_mm.tasks.video_qa.scenes import COLORS, FRAMES_PER_SLOT, SIZE, Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.floating[Any]]


def _distance(shape: str, x: Pixels, y: Pixels, r: float) -> Pixels:
    """Return the signed distance to the outline in pixels, negative inside."""
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
        """Return frame `index` as (height, width, 3) RGB."""
        slot = index // FRAMES_PER_SLOT
        picture = self._behind(index, slot)
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

    def _behind(self, index: int, slot: int) -> Pixels:
        cut = self.scene.cut_at(slot)
        if cut is not None:
            shown = self.scene.cuts[cut]
            step = index - shown.start * FRAMES_PER_SLOT
            return footage.frame_of(shown, step, SIZE).astype(np.float32)
        wall = self.scene.wall_at(slot)
        base = np.full(3, self._gray, dtype=np.float32)
        if wall != "gray":
            base = 0.7 * np.asarray(COLORS[wall], dtype=np.float32) + 0.3 * base
        light = 4.0 * np.sin(self._light + 2 * np.pi * index / self.scene.frames)
        picture: Pixels = base + self._texture + np.float32(light)
        return picture
