"""Train a Decision Transformer on D4RL, Minari or any trajectories, as published or otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from namm_mm.errors import UsageError, message
from research.builders.pocket_rl_train import TrainingSettings, checkpoint_folder, select, train


def build(
    dataset: str | None = None,
    *,
    out: Path = Path("decision_transformer"),
    environment: str | None = None,
    updates: int = 100_000,
    batch: int = 64,
    window: int = 20,
    width: int = 128,
    layers: int = 3,
    heads: int = 1,
    learning_rate: float = 1e-4,
    warmup: int = 10_000,
    weight_decay: float = 1e-4,
    dropout: float = 0.1,
    clip: float = 0.25,
    every: int = 10_000,
    episodes: int = 0,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train; a second call with the same settings goes on with what is there.

    The defaults are those of Chen et al. (2021, arXiv:2106.01345, tables 8 and 9). Two things
    differ from their code: a training window ends, instead of begins, at a step that is drawn
    evenly, and neither of the two is seen at play.

    Parameters
    ----------
    dataset
        As :func:`namm_mm.tasks.offline_rl.sources.read_trajectories` takes it:
        ``d4rl/hopper-medium-v2``, ``gym_replay/hopper-medium-v2``, ``minari/ID`` or a file.
    out
        Holds a folder in hub layout for each checkpoint; with a model of ``adapter.model=FOLDER``.
    environment, episodes
        With both, checkpoints are chosen by so many validation episodes there, and the best is
        returned; else the last.

    Returns
    -------
    Path
        The folder of the chosen checkpoint.

    Raises
    ------
    UsageError
        No data set is named, or only one of `environment` and `episodes`.
    RunError
        The data cannot be fetched or read.
    """
    from namm_mm.tasks.offline_rl.sources import SOURCES, read_trajectories

    if dataset is None:
        raise UsageError(
            message("no data set", given="nothing", expected=f"dataset=, {', '.join(SOURCES)}")
        )
    if (environment is None) != (episodes == 0):
        raise UsageError("environment and episodes come together: give both or neither.")
    say(f"reading {dataset}")
    data = read_trajectories(dataset)
    say(
        f"{len(data):,} steps of {len(data.bounds):,} episodes, "
        f"returns {data.returns.mean():.1f} +- {data.returns.std():.1f}"
    )
    settings = TrainingSettings(
        window=window,
        width=width,
        layers=layers,
        heads=heads,
        batch=batch,
        updates=updates,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        dropout=dropout,
        clip=clip,
        average=0.0,
        every=every,
        seed=seed,
        decay=False,
    )
    out.mkdir(parents=True, exist_ok=True)
    made = train(
        data,
        out,
        settings,
        on_checkpoint=lambda update, loss: say(f"update {update:,}: loss {loss:.4f}"),
    )
    chosen = made[-1]
    if environment is not None:
        from namm_mm.tasks.offline_rl import OfflineRlTask

        task = OfflineRlTask(environment, dataset=dataset if dataset[:5] == "d4rl/" else "pocket")
        scores = select(
            out,
            made,
            task,
            episodes=episodes,
            on_score=lambda update, score: say(f"update {update:,}: score {score:.1f}"),
        )
        chosen = max(scores, key=lambda update: scores[update])
    return checkpoint_folder(out, chosen)
