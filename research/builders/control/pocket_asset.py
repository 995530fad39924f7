"""The folder of a pocket Decision Transformer: checkpoint, policies, a slice of data, a card."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from namm_mm.models.cards import write_card
from namm_mm.tasks.offline_rl.data import KEYS, Trajectories, read_facts, write_dataset
from research.builders.control.pocket_models import PocketModel

LABEL = "generated locally with PPO in the named environment; not D4RL"


@dataclass(frozen=True)
class Chosen:
    """The checkpoint that was chosen.

    Attributes
    ----------
    update
        Updates of its training.
    folder
        Its folder.
    scores
        Mean validation score of each checkpoint, by updates.
    episodes
        Validation episodes of each score.
    """

    update: int
    folder: Path
    scores: dict[int, float]
    episodes: int


def write_asset(
    out: Path,
    model: PocketModel,
    chosen: Chosen,
    data_folder: Path,
    parts: dict[str, Trajectories],
    target_return: float,
) -> Path:
    """Write the asset of `model` into `out`, and return `out`.

    Parameters
    ----------
    data_folder
        Folder of its policies and data.
    parts
        Its data, by quality.
    target_return
        The return that agents ask for.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file in chosen.folder.iterdir():
        shutil.copyfile(file, out / file.name)
    if model.first:
        for quality in ("medium", "expert"):
            shutil.copyfile(data_folder / f"{quality}.npz", out / f"{quality}.npz")
            data = parts[quality]
            whole = next((end for _, end in data.bounds if end >= model.slice), len(data))
            write_dataset(
                out / f"{quality}_slice.hdf5",
                Trajectories(*(getattr(data, key)[:whole] for key in KEYS)),
                {**read_facts(data_folder / f"{quality}.hdf5"), "slice": "the first episodes"},
            )
    hidden = ", velocities hidden" if model.hidden_velocities else ""
    hidden = ", orders shown once" if model.orders else hidden
    write_card(
        out,
        made_by=model.command,
        about=f"Decision Transformer for {model.environment}{hidden}, "
        f"{model.training.window} steps at once",
        licence="Apache-2.0",
        kind="pocket model, trained on locally generated data",
        model_class="DecisionTransformerModel",
        environment=model.environment,
        hidden_velocities=model.hidden_velocities,
        orders=model.orders,
        target_return=target_return,
        behaviour=_behaviour(model),
        data={"origin": LABEL, "mixture": asdict(model.mixture), "parts": _facts(parts)},
        training=asdict(model.training),
        selection=_selection(model, chosen),
        versions={
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("torch", "transformers", "gymnasium", "mujoco", "stable-baselines3")
            },
        },
    )
    return out


def _behaviour(model: PocketModel) -> object:
    if model.policies_of:
        told = "" if model.policies_were_reminded else ", told how the motors turn"
        return f"the policies bundled with {model.policies_of}{told}"
    return {"algorithm": "PPO", "steps": model.policy_steps, **asdict(model.ppo)}


def _facts(parts: dict[str, Trajectories]) -> dict[str, Any]:
    return {
        name: {
            "transitions": len(data),
            "episodes": len(data.bounds),
            "return_mean": round(float(data.returns.mean()), 1),
            "return_std": round(float(data.returns.std()), 1),
        }
        for name, data in parts.items()
    }


def _selection(model: PocketModel, chosen: Chosen) -> dict[str, Any]:
    rule = "earliest within a point of the highest" if model.earliest_of else "highest"
    history = "full cache" if model.history == "cache" else "window re-encoded at every step"
    return {
        "rule": f"{rule} mean score over validation episodes, {history}",
        "episodes": chosen.episodes,
        "seeds": "validation split of the task offline_rl; reported seeds are the test split",
        "scores": {str(update): round(score, 2) for update, score in chosen.scores.items()},
        "chosen_update": chosen.update,
        "note": "one training seed; scores of neighbouring checkpoints differ widely",
    }
