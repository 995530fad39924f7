"""Two agents of a Decision Transformer: one with a growing cache, one with a re-encoded window."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.adapters.control.step import encode
from namm_mm.errors import UsageError, message
from namm_mm.memory import Memory
from namm_mm.memory.carriers import Carrier
from namm_mm.memory.layout import Layout
from namm_mm.memory.rules import Rules
from namm_mm.policies import create
from namm_mm.records import Agent, MemoryUse, ReencodingAgent, TokenType, Trace

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.records.agent import Flags, Numbers


TOKENS_PER_STEP = 3
"""A step is a return-to-go, a state and an action."""


@dataclass(frozen=True)
class Normalization:
    """How observations and rewards are scaled for the model.

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
    """What both agents share: checks, normalisation, the return-to-go, the timestep."""

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
        """R_0 s_0 a_0 R_1 s_1 ... up to the newest state; its action is fed with the next step."""
        kinds = ("return", "state", "action")
        tokens = [TokenType(kind, step) for step in range(self._step) for kind in kinds]
        return tuple(tokens[:-1])

    def _clipped(self, steps: Tensor) -> Tensor:
        return steps.clamp(max=self._model.config.max_ep_len - 1)

    @abstractmethod
    def _choose(self, states: Tensor, returns: Tensor, alive: Tensor) -> Tensor:
        """Return actions (environment, action_dim); `alive` masks the episodes that go on."""


class StreamingAgent(_Agent):
    """Feeds each token once, onto one cache; a memory may evict from it.

    The first step feeds ``R_0 s_0``, each later one ``a_{t-1} R_t s_t``. The action is read off the
    state token. A Decision Transformer encodes time in its timestep embedding alone, so that tokens
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
        self._alive = torch.ones((environments, 0), dtype=torch.bool)  # one column for each token
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
        """Return (row, tokens so far) bool, False where an episode had ended; None if none has."""
        start, self._tokens = self._tokens, self._tokens + new
        if self._tokens > self._alive.shape[1]:
            room = self._alive.new_ones(len(alive), max(new, start))
            self._alive = torch.cat([self._alive, room], dim=1)
        if bool(alive.all()):
            return None
        self._alive[:, start : self._tokens] = alive.cpu()[:, None]
        return self._alive[:, : self._tokens]


def _keep_all(model: Any) -> Memory:
    """Return a memory that evicts nothing."""
    rules = Rules(create("full"), interval=192, per_head=False, streaming=True)
    return Memory(Carrier(Layout.plain(model.config.n_layer)), rules)


class WindowAgent(_Agent, ReencodingAgent):
    """Re-encodes the last `window` steps at every step, as published, without a cache.

    This is the evaluation of Chen et al. (2021). It reports what it holds as a memory does: see
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
        """Number of attention layers of the model."""
        return int(self._model.config.n_layer)

    def usage(self, row: int = 0) -> MemoryUse:
        """Return the tokens that the last decision of a row saw, and their bytes.

        The peak counts the keys and values of the whole window, which exist while it is encoded.
        The final bytes are those of its states, actions and returns, from which the next decision
        encodes it again.
        """
        config, lived = self._model.config, self._lived[row]
        steps = min(lived, self._window)
        tokens = max(TOKENS_PER_STEP * steps - 1, 0)  # the newest action is not known yet
        size = self._dtype.itemsize
        kept = steps * (config.state_dim + config.act_dim + 1) * size
        encoded = TOKENS_PER_STEP * steps * 2 * self.layers * config.hidden_size * size
        return MemoryUse(
            seen=max(TOKENS_PER_STEP * lived - 1, 0),
            updates=0,
            kept_by_layer=(float(tokens),) * self.layers,
            tokens_peak=float(tokens),
            tokens_final=float(tokens),
            bytes_peak=encoded,
            bytes_final=kept,
            live_peak=encoded,
            live_final=kept,
        )

    def kept(self, layer: int, row: int = 0) -> list[Tensor]:
        """Return the positions of those tokens for each head, the same in every `layer`."""
        use = self.usage(row)
        held = torch.arange(use.seen - int(use.tokens_final), use.seen)
        return [held] * int(self._model.config.n_head)

    def trace(self, row: int = 0) -> Trace:
        """Return an empty trace: nothing is evicted."""
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
