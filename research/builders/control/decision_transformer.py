"""``namm-mm build dt``: train a Decision Transformer on D4RL, Minari or any trajectories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.tasks.offline_rl.sources import SOURCES, read_trajectories
from namm_mm.tasks.offline_rl.task import OfflineRlTask
from research.builders.control.selection import best_update, select
from research.builders.control.training import TrainingSettings, checkpoint_folder, train


@dataclass(frozen=True)
class BuildDecisionTransformer(Builder):
    """Trains; a second build with the same settings continues.

    The defaults are those of Chen et al. (2021, arXiv 2106.01345, tables 8 and 9). There are two
    differences to their code, neither of which is seen at play: a training window ends, instead of
    begins, at a step that is drawn evenly, and the weights are not averaged.

    Attributes
    ----------
    dataset
        As :func:`namm_mm.tasks.offline_rl.sources.read_trajectories` takes it:
        ``d4rl/hopper-medium-v2``, ``gym_replay/hopper-medium-v2``, ``minari/ID`` or a file.
    out
        Gets a folder in hub layout for each checkpoint; use one with ``adapter.model=FOLDER``.
    environment, episodes
        With both, so many validation episodes in this environment choose the checkpoint; otherwise
        it is the last one.
    updates, batch, window, width, layers, heads, learning_rate, warmup, weight_decay, dropout
        See :class:`~research.builders.control.training.TrainingSettings`.
    clip, every, seed
        See there, too.
    """

    dataset: str | None = None
    out: Path = Path("decision_transformer")
    environment: str | None = None
    updates: int = 100_000
    batch: int = 64
    window: int = 20
    width: int = 128
    layers: int = 3
    heads: int = 1
    learning_rate: float = 1e-4
    warmup: int = 10_000
    weight_decay: float = 1e-4
    dropout: float = 0.1
    clip: float = 0.25
    every: int = 10_000
    episodes: int = 0
    seed: int = 0

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the folder of the chosen checkpoint.

        Raises
        ------
        UsageError
            No data set is named, or only one of `environment` and `episodes`.
        RunError
            The data cannot be fetched or read.
        """
        if self.dataset is None:
            raise UsageError(
                message("no data set", given="nothing", expected=f"dataset=, {', '.join(SOURCES)}")
            )
        if (self.environment is None) != (self.episodes == 0):
            raise UsageError("environment and episodes come together: give both or neither.")
        say(f"reading {self.dataset}")
        data = read_trajectories(self.dataset)
        say(
            f"{len(data):,} steps of {len(data.bounds):,} episodes, "
            f"returns {data.returns.mean():.1f} +- {data.returns.std():.1f}"
        )
        self.out.mkdir(parents=True, exist_ok=True)
        updates = train(
            data,
            self.out,
            self._settings(),
            on_checkpoint=lambda update, loss: say(f"update {update:,}: loss {loss:.4f}"),
        )
        chosen = updates[-1]
        if self.environment is not None:
            source = self.dataset if self.dataset[:5] == "d4rl/" else "pocket"
            scores = select(
                self.out,
                updates,
                OfflineRlTask(self.environment, dataset=source),
                episodes=self.episodes,
                on_score=lambda update, score: say(f"update {update:,}: score {score:.1f}"),
            )
            chosen = best_update(scores)
        return checkpoint_folder(self.out, chosen)

    def _settings(self) -> TrainingSettings:
        return TrainingSettings(
            window=self.window,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            batch=self.batch,
            updates=self.updates,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            clip=self.clip,
            average=0.0,
            every=self.every,
            seed=self.seed,
            decay=False,
        )
