"""Decision Transformers: control as a sequence of returns, states and actions.

The model is transformers' ``DecisionTransformerModel`` (Chen et al., 2021, arXiv:2106.01345). Its
own forward takes no cache, so the adapter embeds the tokens itself and drives ``model.encoder``, to
which a memory can be attached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.adapters.base import ActingAdapter
from namm_mm.adapters.common import loading
from namm_mm.adapters.control.agents import (
    TOKENS_PER_STEP,
    Normalization,
    StreamingAgent,
    WindowAgent,
)
from namm_mm.adapters.control.facts import ControlFacts, find_facts
from namm_mm.adapters.control.loading import load_model, read_config
from namm_mm.errors import UsageError, message
from namm_mm.models.missing import missing
from namm_mm.models.resolve import resolve

if TYPE_CHECKING:
    from torch import nn

    from namm_mm.memory import Memory
    from namm_mm.records import Agent


class DecisionTransformerAdapter(ActingAdapter):
    """Acts in batches of environments with a Decision Transformer.

    Parameters
    ----------
    model
        A bundled asset (``pocket_rl_hopper``), a local folder in hub layout, or a hub id such as
        ``edbeeching/decision-transformer-gym-hopper-medium``.
    device, dtype
        Where and in which precision the model runs; ``auto`` takes CUDA where there is one, and
        bfloat16 where the device computes in it.
    state_mean, state_std
        Statistics of the training states, for a model that comes without them.
    """

    def __init__(
        self,
        model: str = "pocket_rl_hopper",
        device: str = "auto",
        dtype: str = "float32",
        state_mean: Sequence[float] | None = None,
        state_std: Sequence[float] | None = None,
        history: str | None = None,
    ) -> None:
        if history is not None:
            raise UsageError(
                message(
                    "the option history is gone",
                    given=history,
                    expected="no such option: tokens are cached",
                    then="The policy `window` encodes the last steps anew: policies=[window].",
                )
            )
        if dtype not in loading.DTYPES:
            raise UsageError(
                message("unknown dtype", given=dtype, expected="a dtype", valid=loading.DTYPES)
            )
        if (state_mean is None) != (state_std is None):
            raise UsageError("state_mean and state_std come together: give both or neither.")
        self._name = str(model)
        self._device = device
        self._dtype = dtype
        self._statistics = (
            None
            if state_mean is None or state_std is None
            else (tuple(map(float, state_mean)), tuple(map(float, state_std)))
        )
        self._model: Any = None
        self._facts: ControlFacts | None = None

    @property
    def model_name(self) -> str:
        """The name of the model in the configuration."""
        return self._name

    def missing(self) -> Iterator[str]:
        """Yield what the model lacks here; see :func:`namm_mm.models.missing.missing`."""
        yield from missing(self._name, tokenizer=False)

    def load(self) -> None:
        """Load weights, configuration and state statistics.

        Raises
        ------
        UsageError
            The device is absent, the model is unknown or no Decision Transformer, or no statistics
            of its states are known.
        RunError
            Files are missing or damaged.
        """
        loading.choose_device(self._device)  # raises before anything is read
        source = resolve(self._name)
        config, window = read_config(source, self._name)
        facts = find_facts(
            self._name,
            source,
            states=config.state_dim,
            window=window,
            statistics=self._statistics,
        )
        self._model = load_model(source, config, device=self._device, dtype=self._dtype)
        self._facts = facts

    def _loaded(self) -> tuple[Any, ControlFacts]:
        if self._model is None or self._facts is None:
            raise UsageError(f"the model {self._name!r} is not loaded: call load() first.")
        return self._model, self._facts

    @property
    def model(self) -> nn.Module:
        """The whole ``DecisionTransformerModel``."""
        model: nn.Module = self._loaded()[0]
        return model

    @property
    def control_facts(self) -> ControlFacts:
        """Statistics, scale and window of the loaded model."""
        return self._loaded()[1]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Scale and window of the loaded model, for records."""
        found = self._facts
        return {} if found is None else {"scale": found.scale, "window": found.window}

    @property
    def backbone(self) -> nn.Module:
        """The encoder, whose forward takes ``past_key_values``."""
        encoder: nn.Module = self._loaded()[0].encoder
        return encoder

    @property
    def dimensions(self) -> tuple[int, int]:
        """State and action dimension of the loaded model."""
        config = self._loaded()[0].config
        return int(config.state_dim), int(config.act_dim)

    def agent(self, environments: int, memory: Memory | None, *, target_return: float) -> Agent:
        """Start a new episode in each of `environments` environments.

        A `memory`, which the caller has attached to `backbone`, is reset.

        Raises
        ------
        UsageError
            The memory prunes after a prompt: an episode has none.
        """
        model, _ = self._loaded()
        normalization = self._normalization(environments)
        if memory is not None:
            if not memory.rules.streaming:
                raise UsageError(
                    message(
                        "an episode has no prompt to prune after",
                        given="protocol=prune_after_prefill",
                        expected="protocol=streaming",
                    )
                )
            memory.reset()
        return StreamingAgent(model, normalization, environments, target_return, memory)

    def window_agent(self, environments: int, tokens: int, *, target_return: float) -> WindowAgent:
        """Start new episodes without a memory: the last `tokens` are re-encoded at every step.

        Raises
        ------
        UsageError
            `tokens` is no multiple of three: a step is a return, a state and an action.
        """
        steps, rest = divmod(tokens, TOKENS_PER_STEP)
        if rest or not steps:
            raise UsageError(
                message(
                    "the window holds no whole steps",
                    given=f"tokens:{tokens}",
                    expected=f"a multiple of {TOKENS_PER_STEP}: return, state and action",
                    then="tokens:60 are the 20 steps of the published protocol.",
                )
            )
        model, _ = self._loaded()
        normalization = self._normalization(environments)
        return WindowAgent(model, normalization, environments, target_return, steps)

    def _normalization(self, environments: int) -> Normalization:
        if environments < 1:
            raise UsageError(
                message("no environments", given=environments, expected="1 or more environments")
            )
        _, facts = self._loaded()
        return Normalization(
            mean=torch.tensor(facts.state_mean),
            deviation=torch.tensor(facts.state_std),
            scale=facts.scale,
        )
