"""Train a small Decision Transformer on trajectories, and choose a checkpoint by playing.

The loss is the mean squared error of the actions (Chen et al., 2021, section 3). It says little
about returns: a checkpoint of lower loss may fall where an earlier one walks. So checkpoints are
saved at regular updates and chosen by held-out episodes, never by loss and never on the reported
seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from namm_mm.tasks.offline_rl.data import Trajectories

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from namm_mm.records import Agent
    from namm_mm.tasks.offline_rl.task import OfflineRlTask

STATE = "training.pt"
SELECTION = "selection.json"
SCALE = 1000.0
MAX_STEPS = 1000


@dataclass(frozen=True)
class TrainingSettings:
    """How a pocket model is trained.

    Attributes
    ----------
    window
        Steps per training sequence, three tokens each (K in the paper).
    width, layers, heads
        Size of the transformer.
    batch, updates, learning_rate, warmup, weight_decay, dropout, clip
        AdamW with linear warmup, then a cosine down to a tenth.
    average
        Decay of the running mean of the weights, which is what is saved.
    every
        Updates between two checkpoints.
    seed
        Seed of weights, batches and dropout.
    hidden_weight
        Weight of a second loss: the hidden part of the state (velocities, or orders that were
        given), read off the state token by a linear head that is thrown away afterwards. It teaches
        the model to look for it in the past; at play the model does not see it.
    decay
        Let the learning rate fall after the warmup; without, it stays, as in the paper.
    shifted
        Place each training window at a random time of the episode. Episodes begin nearly alike, and
        a model that knows the time may recite actions by the clock, and fall; this one has to look.
    beginning
        Steps of the window that are the first of the episode, whatever comes between them and the
        others. A model whose tokens are placed by their time alone can so learn in short sequences
        to look far back.
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


class Windows:
    """Random windows of trajectories, each ending at a step drawn evenly from all steps.

    Windows that begin before their episode are padded at the left and masked, as an agent's first
    steps are.
    """

    def __init__(
        self,
        data: Trajectories,
        window: int,
        hidden: NDArray[np.float32] | None = None,
        *,
        shifted: bool = False,
        beginning: int = 0,
    ) -> None:
        self._steps = np.arange(window - beginning)
        self._beginning = np.arange(beginning)
        self._start = np.empty(len(data), dtype=np.int64)
        self._to_go = np.empty(len(data), dtype=np.float32)
        for first, last in data.bounds:
            self._start[first:last] = first
            rewards = data.rewards[first:last].astype(np.float64)
            self._to_go[first:last] = np.cumsum(rewards[::-1])[::-1] / SCALE
        self.mean = data.observations.mean(axis=0)
        self.deviation = data.observations.std(axis=0) + 1e-6
        self._states = ((data.observations - self.mean) / self.deviation).astype(np.float32)
        self._actions = data.actions
        self._shifted = shifted
        self._hidden = hidden
        if hidden is not None:
            self._hidden = (hidden - hidden.mean(axis=0)) / (hidden.std(axis=0) + 1e-6)

    def draw(self, count: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """One batch of `count` windows: arguments of ``DecisionTransformerModel``, and `hidden`."""
        last = generator.integers(len(self._start), size=count)
        index = last[:, None] - self._steps[::-1]
        start = self._start[last][:, None]
        mask = index >= start
        index = np.maximum(index, start)
        if len(self._beginning):
            before = np.broadcast_to(start + self._beginning, (count, len(self._beginning)))
            mask = np.concatenate([before < index[:, :1], mask], axis=1)
            index = np.concatenate([before, index], axis=1)
        steps = index - start
        if self._shifted:
            steps = steps - steps.min(axis=1, keepdims=True)
            latest = MAX_STEPS - steps.max(axis=1)
            steps = steps + generator.integers(latest)[:, None]
        batch = {
            "states": self._states[index],
            "actions": self._actions[index],
            "returns_to_go": self._to_go[index][..., None],
            "timesteps": steps,
            "attention_mask": mask.astype(np.int64),
        }
        if self._hidden is not None:
            batch["hidden"] = self._hidden[index]
        return batch


def checkpoint_folder(folder: Path, update: int) -> Path:
    """Where the checkpoint after `update` updates lies."""
    return folder / f"update_{update:05d}"


def train(
    data: Trajectories,
    folder: Path,
    settings: TrainingSettings,
    *,
    hidden: NDArray[np.float32] | None = None,
    on_checkpoint: Callable[[int, float], None] = lambda update, loss: None,
) -> list[int]:
    """Train, saving a checkpoint every `settings.every` updates; a second call resumes.

    Parameters
    ----------
    data
        Whole episodes.
    folder
        Holds one folder in hub layout per checkpoint, and what resuming needs.
    hidden
        (transition, number) part of the state that the model does not see, for `hidden_weight`.
    on_checkpoint
        Told the update and the mean loss since the last checkpoint.

    Returns
    -------
    list of int
        Updates at which checkpoints lie.
    """
    import torch

    if not settings.hidden_weight:
        hidden = None
    windows = Windows(
        data,
        settings.window,
        hidden,
        shifted=settings.shifted,
        beginning=settings.beginning,
    )
    torch.manual_seed(settings.seed)
    model = _new_model(data, settings)
    head: torch.nn.Module = torch.nn.Identity()
    if hidden is not None:
        head = torch.nn.Linear(settings.width, hidden.shape[1])
    averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)  # type: ignore[no-untyped-call]
    mean = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=averaging)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *head.parameters()],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    done = _resume(folder / STATE, settings, model, mean, optimizer, head)
    if not done:
        (folder / SELECTION).unlink(missing_ok=True)  # scores of an earlier recipe
    for update in range(done, settings.updates, settings.every):
        until = min(update + settings.every, settings.updates)
        generator = np.random.default_rng((settings.seed, update))
        torch.manual_seed(settings.seed + update)
        losses = []
        model.train()
        for number in range(update, until):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(number, settings)
            loss = _loss(model, head, windows.draw(settings.batch, generator), settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            mean.update_parameters(model)
            losses.append(loss.item())
        _save(folder, until, settings, model, mean, optimizer, head, windows)
        on_checkpoint(until, float(np.mean(losses)))
    return [*range(settings.every, settings.updates, settings.every), settings.updates]


def select(
    folder: Path,
    updates: list[int],
    task: OfflineRlTask,
    *,
    episodes: int,
    history: Literal["cache", "window"] = "window",
    on_score: Callable[[int, float], None] = lambda update, score: None,
) -> dict[int, float]:
    """Mean score of each checkpoint over validation episodes.

    `history` is ``window``, re-encoding the steps it was trained on, or ``cache``, all of them.

    Scores are kept in ``selection.json`` as they come, so that a second call resumes.
    """
    from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
    from namm_mm.adapters.control.agents import TOKENS_PER_STEP

    path = folder / SELECTION
    scores: dict[int, float] = {}
    if path.is_file():
        scores = {int(k): v for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    samples = task.samples("validation", episodes, 0)
    for update in updates:
        if update not in scores:
            adapter = DecisionTransformerAdapter(str(checkpoint_folder(folder, update)))
            adapter.load()
            target, count = task.target_return(), len(samples)
            agent: Agent = adapter.agent(count, None, target_return=target)
            if history == "window":
                tokens = TOKENS_PER_STEP * adapter.control_facts.window
                agent = adapter.window_agent(count, tokens, target_return=target)
            scores[update] = float(np.mean([e.score.value for e in task.play(samples, agent)]))
            path.write_text(json.dumps(scores), encoding="utf-8")
            on_score(update, scores[update])
    return {update: scores[update] for update in updates}


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


def _loss(
    model: Any, head: Any, batch: dict[str, NDArray[Any]], settings: TrainingSettings
) -> Tensor:
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    hidden = tensors.pop("hidden", None)
    output = model(**tensors, return_dict=True)
    wrong = ((output.action_preds - tensors["actions"]) ** 2).mean(dim=-1)
    if hidden is not None:
        found = head(output.last_hidden_state[:, 1::3])  # of the state tokens
        wrong = wrong + settings.hidden_weight * ((found - hidden) ** 2).mean(dim=-1)
    mask = tensors["attention_mask"]
    loss: Tensor = (wrong * mask).sum() / mask.sum()
    return loss


def _rate(update: int, settings: TrainingSettings) -> float:
    if update < settings.warmup:
        return (update + 1) / settings.warmup
    if not settings.decay:
        return 1.0
    progress = (update - settings.warmup) / max(1, settings.updates - settings.warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def _save(
    folder: Path,
    update: int,
    settings: TrainingSettings,
    model: Any,
    mean: Any,
    optimizer: Any,
    head: Any,
    windows: Windows,
) -> None:
    import torch
    from safetensors.torch import save_file

    from namm_mm.adapters.control.facts import CONTROL_FILE

    target = checkpoint_folder(folder, update)
    target.mkdir(parents=True, exist_ok=True)
    mean.module.config.save_pretrained(target)
    save_file(mean.module.state_dict(), target / "model.safetensors", metadata={"format": "pt"})
    control = {
        "state_mean": windows.mean.tolist(),
        "state_std": windows.deviation.tolist(),
        "scale": SCALE,
        "window": settings.window,
    }
    (target / CONTROL_FILE).write_text(json.dumps(control, indent=2) + "\n", encoding="utf-8")
    partial = folder / f"{STATE}.tmp"
    torch.save(
        {
            "update": update,
            "settings": asdict(settings),
            "model": model.state_dict(),
            "mean": mean.state_dict(),
            "optimizer": optimizer.state_dict(),
            "head": head.state_dict(),
        },
        partial,
    )
    partial.replace(folder / STATE)


def _resume(
    path: Path, settings: TrainingSettings, model: Any, mean: Any, optimizer: Any, head: Any
) -> int:
    """Load the last state if its settings are the same; return its update, or 0."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["settings"] != asdict(settings):
        return 0
    model.load_state_dict(state["model"])
    mean.load_state_dict(state["mean"])
    optimizer.load_state_dict(state["optimizer"])
    head.load_state_dict(state["head"])
    return int(state["update"])
