"""Train a small Decision Transformer on trajectories.

The loss is the mean squared error of the actions (Chen et al., 2021, section 3). It tells little
about returns: a checkpoint with a lower loss may fall where an earlier one walks. Checkpoints are
therefore saved at regular updates, and :mod:`research.builders.control.selection` chooses one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from namm_mm.adapters.control.facts import CONTROL_FILE
from namm_mm.tasks.offline_rl.data import Trajectories
from research.builders.control.windows import MAX_STEPS, SCALE, Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATE = "training.pt"
SELECTION = "selection.json"


@dataclass(frozen=True)
class TrainingSettings:
    """How a Decision Transformer is trained.

    Attributes
    ----------
    window
        Steps of a training sequence, three tokens each (K in the paper).
    width, layers, heads
        Size of the transformer.
    batch, updates, learning_rate, warmup, weight_decay, dropout, clip
        AdamW with a linear warmup, then a cosine down to a tenth.
    average
        Decay of the running mean of the weights, which is saved.
    every
        Updates between two checkpoints.
    seed
        Seed of weights, batches and dropout.
    hidden_weight
        Weight of a second loss: a linear head predicts the hidden part of the state (velocities, or
        orders that were given) from the state token. It teaches the model to look for that part in
        the past. The head is discarded, and the model does not see the hidden part at play.
    decay
        Whether the learning rate falls after the warmup; in the paper it stays constant.
    shifted
        Give each training window a random time of the episode. Episodes begin nearly alike: a model
        that knows the time may repeat actions by the clock, and fall.
    beginning
        So many steps of the window are the first of the episode, whatever comes between them and
        the others. A model whose tokens are placed by their time alone can thus learn in short
        sequences to attend far back.
    """

    window: int = 20
    width: int = 64
    layers: int = 3
    heads: int = 1
    batch: int = 32
    updates: int = 3000
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    dropout: float = 0.1
    clip: float = 0.25
    average: float = 0.99
    every: int = 250
    seed: int = 0
    hidden_weight: float = 0.0
    shifted: bool = False
    beginning: int = 0
    decay: bool = True
    stored: Literal["float32", "float16"] = "float32"


def checkpoint_folder(folder: Path, update: int) -> Path:
    """Return the folder of the checkpoint after `update` updates."""
    return folder / f"update_{update:05d}"


def train(
    data: Trajectories,
    folder: Path,
    settings: TrainingSettings,
    *,
    hidden: NDArray[np.float32] | None = None,
    on_checkpoint: Callable[[int, float], None] = lambda update, loss: None,
) -> list[int]:
    """Train, saving a checkpoint every `settings.every` updates; a second call continues.

    Parameters
    ----------
    data
        Whole episodes.
    folder
        Holds a folder in hub layout for each checkpoint, and what is needed to continue.
    hidden
        (transition, number) part of the state that the model does not see, for `hidden_weight`.
    on_checkpoint
        Is told the update and the mean loss since the last checkpoint.

    Returns
    -------
    list of int
        Updates at which there are checkpoints.
    """
    if not settings.hidden_weight:
        hidden = None
    windows = Windows(
        data,
        settings.window,
        hidden,
        shifted=settings.shifted,
        beginning=settings.beginning,
    )
    training = _Training(data, settings, 0 if hidden is None else hidden.shape[1])
    done = training.resume(folder)
    if not done:
        (folder / SELECTION).unlink(missing_ok=True)  # scores of earlier settings
    for update in range(done, settings.updates, settings.every):
        until = min(update + settings.every, settings.updates)
        generator = np.random.default_rng((settings.seed, update))
        torch.manual_seed(settings.seed + update)
        losses = []
        training.model.train()
        for number in range(update, until):
            losses.append(training.step(number, windows.draw(settings.batch, generator)))
        training.save(folder, until, windows)
        on_checkpoint(until, float(np.mean(losses)))
    return [*range(settings.every, settings.updates, settings.every), settings.updates]


class _Training:
    """A model, the running mean of its weights, its optimizer, and a head for the hidden part."""

    def __init__(self, data: Trajectories, settings: TrainingSettings, hidden: int) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.model = _new_model(data, settings)
        self.head: torch.nn.Module = torch.nn.Identity()
        if hidden:
            self.head = torch.nn.Linear(settings.width, hidden)
        averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)  # type: ignore[no-untyped-call]
        self.mean: Any = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=averaging)
        self.optimizer = torch.optim.AdamW(
            [*self.model.parameters(), *self.head.parameters()],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )

    def step(self, number: int, batch: dict[str, NDArray[Any]]) -> float:
        """Take one step; return the loss."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(number, settings)
        loss = self._loss(batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        self.mean.update_parameters(self.model)
        return loss.item()

    def _loss(self, batch: dict[str, NDArray[Any]]) -> Tensor:
        tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
        hidden = tensors.pop("hidden", None)
        output = self.model(**tensors, return_dict=True)
        wrong = ((output.action_preds - tensors["actions"]) ** 2).mean(dim=-1)
        if hidden is not None:
            found = self.head(output.last_hidden_state[:, 1::3])  # of the state tokens
            wrong = wrong + self.settings.hidden_weight * ((found - hidden) ** 2).mean(dim=-1)
        mask = tensors["attention_mask"]
        loss: Tensor = (wrong * mask).sum() / mask.sum()
        return loss

    def save(self, folder: Path, update: int, windows: Windows) -> None:
        """Write a checkpoint, and the state from which training continues."""
        target = checkpoint_folder(folder, update)
        target.mkdir(parents=True, exist_ok=True)
        module = self.mean.module
        module.config.save_pretrained(target)
        dtype = getattr(torch, self.settings.stored)
        weights = {name: value.to(dtype) for name, value in module.state_dict().items()}
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
        control = {
            "state_mean": windows.mean.tolist(),
            "state_std": windows.deviation.tolist(),
            "scale": SCALE,
            "window": self.settings.window,
        }
        (target / CONTROL_FILE).write_text(json.dumps(control, indent=2) + "\n", encoding="utf-8")
        state = {name: part.state_dict() for name, part in self._parts().items()}
        partial = folder / f"{STATE}.tmp"
        torch.save({"update": update, "settings": asdict(self.settings), **state}, partial)
        partial.replace(folder / STATE)

    def resume(self, folder: Path) -> int:
        """Load the last state if it has the same settings; return its update, or 0."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / STATE).is_file():
            return 0
        state = torch.load(folder / STATE, weights_only=True)
        if state["settings"] != asdict(self.settings):
            return 0
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        return int(state["update"])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "mean": self.mean,
            "optimizer": self.optimizer,
            "head": self.head,
        }


def _new_model(data: Trajectories, settings: TrainingSettings) -> Any:
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    config = DecisionTransformerConfig(
        state_dim=data.observations.shape[1],
        act_dim=data.actions.shape[1],
        hidden_size=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        n_positions=1,  # positions are always zero: time comes from the timestep embedding
        max_ep_len=MAX_STEPS,
        resid_pdrop=settings.dropout,
        embd_pdrop=settings.dropout,
        attn_pdrop=settings.dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    return DecisionTransformerModel(config)


def _rate(update: int, settings: TrainingSettings) -> float:
    """Return the factor of the learning rate."""
    if update < settings.warmup:
        return (update + 1) / settings.warmup
    if not settings.decay:
        return 1.0
    progress = (update - settings.warmup) / max(1, settings.updates - settings.warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
