"""Choose a checkpoint by playing validation episodes, never by loss and never on reported seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.adapters.control.agents import TOKENS_PER_STEP
from namm_mm.records import Agent
from namm_mm.tasks.offline_rl.task import OfflineRlTask
from research.builders.control.training import SELECTION, checkpoint_folder

TOLERANCE = 1.0
"""The earliest checkpoint may score so much less than the best."""


def select(
    folder: Path,
    updates: list[int],
    task: OfflineRlTask,
    *,
    episodes: int,
    history: Literal["cache", "window"] = "window",
    on_score: Callable[[int, float], None] = lambda update, score: None,
) -> dict[int, float]:
    """Return the mean score of each checkpoint over validation episodes.

    Scores are kept in ``selection.json`` as they come; a second call continues.

    Parameters
    ----------
    folder
        The folder of the training.
    updates
        The checkpoints.
    history
        ``window`` re-encodes the steps that the model was trained on; ``cache`` keeps all steps.
    on_score
        Is told the update and its score.
    """
    path = folder / SELECTION
    scores: dict[int, float] = {}
    if path.is_file():
        scores = {int(k): v for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    samples = task.samples("validation", episodes, 0)
    for update in updates:
        if update not in scores:
            adapter = DecisionTransformerAdapter(str(checkpoint_folder(folder, update)))
            adapter.load()
            count, target = len(samples), task.target_return()
            agent: Agent = adapter.agent(count, None, target_return=target)
            if history == "window":
                tokens = TOKENS_PER_STEP * adapter.control_facts.window
                agent = adapter.window_agent(count, tokens, target_return=target)
            scores[update] = float(np.mean([e.score.value for e in task.play(samples, agent)]))
            path.write_text(json.dumps(scores), encoding="utf-8")
            on_score(update, scores[update])
    return {update: scores[update] for update in updates}


def best_update(scores: dict[int, float], *, earliest: bool = False) -> int:
    """Return the checkpoint with the highest score, or the earliest within `TOLERANCE` of it."""
    best = max(scores, key=lambda update: scores[update])
    if not earliest:
        return best
    return min(update for update, score in scores.items() if score >= scores[best] - TOLERANCE)
