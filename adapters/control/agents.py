"""Two ways to act with a Decision Transformer: a growing cache, or a re-encoded window."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.adapters.control.step import encode
from namm_mm.errors import UsageError, message
from namm_mm.memory import Memory
from namm_mm.memory.layer import Rules
from namm_mm.policies import create
from namm_mm.records import Agent, MemoryUse, ReencodingAgent, TokenType, Trace

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.records.agent import Flags, Numbers


TOKENS_PER_STEP = 3
"""Return, state and action."""


@dataclass(frozen=True)
class Normalization:
    """What stands between an environment's numbers and the model's.

    Attributes
    ----------
    mean, deviation
        (state,) statistics of the training states.
    scale
        Rewards per unit of return-to-go.
    """

    mean: Tensor
    deviation: Tensor
    scale: float = 1000.0


class _Agent(Agent):
    """What both agents share: checks, normalisation, the return still to go, the timestep."""

    def __init__(
        self, model: Any, normalization: Normalization, environments: int, target_return: float
    ) -> None:
        self._model = model
        self._normalization = normalization
        self._environments = environments
        parameter = next(model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._return_to_go = torch.full(
            (environments,), target_return / normalization.scale, dtype=torch.float32
        )
        self._step = 0

    def act(self, observations: Numbers, rewards: Numbers, alive: Flags) -> Numbers:
        """Choose the next actions; see :class:`namm_mm.records.Agent`."""
        expected = (self._environments, self._model.config.state_dim)
        if observations.shape != expected:
            raise UsageError(
                message(
                    "the environment does not fit the model",
                    given=f"observations of shape {observations.shape}",
                    expected=f"(environments, state dimension of the model) = {expected}",
                    then="Choose the environment that the model was trained in.",
                )
            )
        if self._step:
            self._return_to_go -= torch.from_numpy(rewards).float() / self._normalization.scale
        states = torch.from_numpy(observations).float()
        states = (states - self._normalization.mean) / self._normalization.deviation
        with torch.inference_mode():
            actions = self._choose(
                states.to(self._device, self._dtype),
                self._return_to_go.to(self._device, self._dtype, copy=True)[:, None],
                torch.from_numpy(alive).to(self._device),
            )
        self._step += 1
        return actions.float().cpu().numpy()

    @property
    def token_types(self) -> tuple[TokenType, ...]:
        """R_0 s_0 a_0 R_1 s_1 ... up to the newest state: its action is fed with the next step."""
        kinds = ("return", "state", "action")
        tokens = [TokenType(kind, step) for step in range(self._step) for kind in kinds]
        return tuple(tokens[:-1])

    def _clipped(self, steps: Tensor) -> Tensor:
        return steps.clamp(max=self._model.config.max_ep_len - 1)

    @abstractmethod
    def _choose(self, states: Tensor, returns: Tensor, alive: Tensor) -> Tensor:
        """Actions (environment, action_dim) for states, returns-to-go and a mask of the living."""


class StreamingAgent(_Agent):
    """Feeds each token once, through one cache that grows, or that a memory keeps small.

    The first step feeds ``R_0 s_0``, each later one ``a_{t-1} R_t s_t``; the action is read off the
    state token. A Decision Transformer knows time from its timestep embedding alone, so that tokens
    need no position in the cache.
    """

    def __init__(
        self,
        model: Any,
        normalization: Normalization,
        environments: int,
        target_return: float,
        memory: Memory | None,
    ) -> None:
        super().__init__(model, normalization, environments, target_return)
        self._memory = memory if memory is not None else _keep_all(model)
        self._alive = torch.ones((environments, 0), dtype=torch.bool)  # a column for each token
        self._tokens = 0
        self._actions: Tensor | None = None

    def _choose(self, states: Tensor, returns: Tensor, alive: Tensor) -> Tensor:
        model, now = self._model, min(self._step, self._model.config.max_ep_len - 1)
        times = model.embed_timestep.weight
        tokens = [model.embed_return(returns) + times[now], model.embed_state(states) + times[now]]
        if self._actions is not None:
            before = times[min(self._step - 1, now)]
            tokens.insert(0, model.embed_action(self._actions) + before)
        embedded = model.embed_ln(torch.stack(tokens, dim=1))
        padding = self._padding(alive, len(tokens))
        newest = encode(model.encoder, embedded, self._memory.cache, padding)
        self._actions = model.predict_action(newest)
        return self._actions

    def _padding(self, alive: Tensor, new: int) -> Tensor | None:
        """(row, all tokens so far) bool: which tokens came while a row lived; None if all did."""
        start, self._tokens = self._tokens, self._tokens + new
        if self._tokens > self._alive.shape[1]:
            room = self._alive.new_ones(len(alive), max(new, start))
            self._alive = torch.cat([self._alive, room], dim=1)
        if bool(alive.all()):
            return None
        self._alive[:, start : self._tokens] = alive.cpu()[:, None]
        return self._alive[:, : self._tokens]


def _keep_all(model: Any) -> Memory:
    """A memory that forgets nothing; it makes room for some steps at a time."""
    rules = Rules(create("full"), interval=192, per_head=False, streaming=True)
    return Memory(model.config.n_layer, rules)


class WindowAgent(_Agent, ReencodingAgent):
    """Re-encodes the last `window` steps from nothing at every step, as published.

    This is the evaluation of Chen et al. (2021); no token outlives the window, and there is no
    cache. What it holds is told in the words of a memory: see
    :class:`namm_mm.records.ReencodingAgent`.
    """

    def __init__(
        self,
        model: Any,
        normalization: Normalization,
        environments: int,
        target_return: float,
        window: int,
    ) -> None:
        super().__init__(model, normalization, environments, target_return)
        self._window = window
        self._history: list[list[Tensor]] = []
        self._lived = [0] * environments

    @property
    def layers(self) -> int:
        """Attention layers of the model."""
        return int(self._model.config.n_layer)

    def usage(self, row: int = 0) -> MemoryUse:
        """Tokens that the last decision of a row saw, and the room that it took.

        At the peak, keys and values of the whole window exist, while it is encoded; in the end, the
        numbers of its steps, from which the next decision encodes them again.
        """
        config, lived = self._model.config, self._lived[row]
        steps = min(lived, self._window)
        tokens = max(TOKENS_PER_STEP * steps - 1, 0)  # the newest action is not there yet
        size = self._dtype.itemsize
        encoded = TOKENS_PER_STEP * steps * 2 * self.layers * config.hidden_size * size
        return MemoryUse(
            seen=max(TOKENS_PER_STEP * lived - 1, 0),
            updates=0,
            kept_by_layer=(float(tokens),) * self.layers,
            tokens_peak=float(tokens),
            tokens_final=float(tokens),
            bytes_peak=encoded,
            bytes_final=steps * (config.state_dim + config.act_dim + 1) * size,
        )

    def kept(self, layer: int, row: int = 0) -> list[Tensor]:
        """Positions of those tokens, for each head, in any `layer`."""
        use = self.usage(row)
        held = torch.arange(use.seen - int(use.tokens_final), use.seen)
        return [held] * int(self._model.config.n_head)

    def trace(self, row: int = 0) -> Trace:
        """Nothing was evicted, at any time or in any `row`."""
        return Trace()

    def _choose(self, states: Tensor, returns: Tensor, alive: Tensor) -> Tensor:
        config = self._model.config
        self._lived = [n + int(a) for n, a in zip(self._lived, alive.tolist(), strict=True)]
        actions = states.new_zeros(self._environments, config.act_dim)
        self._history.append([states, actions, returns])
        del self._history[: -self._window]
        rows = alive.nonzero()[:, 0]
        past = [torch.stack(column, dim=1)[rows] for column in zip(*self._history, strict=True)]
        length = len(self._history)
        steps = torch.arange(self._step - length + 1, self._step + 1, device=self._device)
        shape = (len(rows), length)
        output = self._model(
            states=past[0],
            actions=past[1],
            returns_to_go=past[2],
            timesteps=self._clipped(steps).expand(shape),
            attention_mask=torch.ones(shape, dtype=torch.long, device=self._device),
            return_dict=True,
        )
        actions[rows] = output.action_preds[:, -1]
        return actions
