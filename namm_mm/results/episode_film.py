"""Render an episode again from its actions, in a process of its own: graphics drivers may crash.

::

    python -m namm_mm.results.episode_film HISTORY.npz FILM.mp4
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError
from namm_mm.results.drawing import save_film
from namm_mm.runs.history import History, read

if TYPE_CHECKING:
    import gymnasium

PICTURES = 60
"""Pictures of a film, evenly spaced over the episode."""

SIZE = 200
RATE = 12.0
SECONDS = 90.0
BACKENDS = ("egl", "osmesa")


def render(history: Path, film: Path, *, pictures: int = PICTURES) -> Path | None:
    """Render the episode of a saved history; None where nothing here can render it.

    Parameters
    ----------
    history
        A file of :mod:`namm_mm.runs.history` with an environment, a seed and actions.
    film
        The ``.mp4`` to write.
    """
    known = os.environ.get("MUJOCO_GL")
    command = [
        sys.executable,
        "-m",
        "namm_mm.results.episode_film",
        str(history),
        str(film),
        str(pictures),
    ]
    for backend in (known,) if known else BACKENDS:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "MUJOCO_GL": backend},
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        lines = done.stdout.splitlines()
        if done.returncode == 0 and lines:
            return Path(lines[-1])
    return None


def main(history: Path, film: Path, pictures: int = PICTURES) -> Path:
    """Play the actions again and write the film."""
    from PIL import Image

    episode = read(history)
    steps = len(episode.rewards)
    shown = set(np.linspace(0, steps - 1, min(steps, pictures)).round().astype(int).tolist())
    found = []

    def look(step: int, environment: gymnasium.Env) -> None:
        if step in shown:
            found.append(Image.fromarray(np.asarray(environment.render())))

    replay(episode, look, render_mode="rgb_array", width=SIZE, height=SIZE)
    return save_film(found, film, RATE)


def replay(episode: History, look: Callable[[int, gymnasium.Env], None], **options: Any) -> None:
    """Take the actions of an episode again, and `look` after every step.

    Raises
    ------
    RunError
        The rewards are not those of the episode: it is another environment.
    """
    import gymnasium

    environment = gymnasium.make(
        episode.environment, max_episode_steps=max(len(episode.rewards), 1), **options
    )
    try:
        environment.reset(seed=episode.seed)
        for step, (action, reward) in enumerate(zip(episode.actions, episode.rewards, strict=True)):
            _, again, *_ = environment.step(action)
            if abs(float(again) - reward) > 1e-3 * max(1.0, abs(reward)):
                raise RunError(
                    f"step {step} of {episode.environment} gave {float(again):g}, it was "
                    f"{reward:g} before: this is another environment."
                )
            look(step, environment)
    finally:
        environment.close()


if __name__ == "__main__":
    source, target, *count = sys.argv[1:]
    written = main(Path(source), Path(target), *map(int, count))
    sys.stdout.write(f"{written}\n")
