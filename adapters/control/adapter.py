"""Decision Transformers: control as a sequence of returns, states and actions.

The model is transformers' ``DecisionTransformerModel`` (Chen et al., 2021, arXiv:2106.01345). Its
own forward takes no cache, so the adapter embeds the tokens itself and drives ``model.encoder``, to
which a memory can be attached.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from namm_mm.adapters.base import ActingAdapter
from namm_mm.adapters.common import loading
from namm_mm.adapters.control.statistics import (
    STATE_STATISTICS,
    published_statistics,
)
from namm_mm.errors import RunError, UsageError, message
from namm_mm.models.missing import missing

if TYPE_CHECKING:
    from torch import nn

    from namm_mm.adapters.control.agents import Normalization, WindowAgent
    from namm_mm.memory import Memory
    from namm_mm.records import Agent

CONTROL_FILE = "control.json"
"""Beside the weights of our own models: what config.json cannot hold."""

_HISTORIES = ("cache", "window")


@dataclass(frozen=True)
class ControlFacts:
    """What a Decision Transformer needs beside its weights.

    Attributes
    ----------
    state_mean, state_std
        Statistics of the training states, one number per dimension.
    scale
        Rewards per unit of return-to-go.
    window
        Steps that the model was trained on at once.
    """

    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    scale: float = 1000.0
    window: int = 20


class DecisionTransformerAdapter(ActingAdapter):
    """Acts in batches of environments with a Decision Transformer.

    Parameters
    ----------
    model
        A bundled asset (``pocket_rl_hopper``), a local folder in hub layout, or a hub id such as
        ``edbeeching/decision-transformer-gym-hopper-medium``.
    history
        ``cache``: every token is encoded once and stays cached, or is forgotten by the memory.
        ``window``: the last steps are re-encoded each time, as published; it takes no memory.
    window
        Steps of that window; None takes what the model was trained on.
    device, dtype
        Where and in which precision the model runs; ``auto`` takes CUDA where there is one, and
        bfloat16 where the device computes in it.
    state_mean, state_std
        Statistics of the training states, for a model that comes without them.
    """

    def __init__(
        self,
        model: str = "pocket_rl_hopper",
        history: Literal["cache", "window"] = "cache",
        window: int | None = None,
        device: str = "auto",
        dtype: str = "float32",
        state_mean: Sequence[float] | None = None,
        state_std: Sequence[float] | None = None,
    ) -> None:
        for what, given, valid in (
            ("history", history, _HISTORIES),
            ("dtype", dtype, loading.DTYPES),
        ):
            if given not in valid:
                raise UsageError(
                    message(f"unknown {what}", given=given, expected=f"a {what}", valid=valid)
                )
        if window is not None and window < 1:
            raise UsageError(message("wrong window", given=window, expected="1 or more steps"))
        if (state_mean is None) != (state_std is None):
            raise UsageError("state_mean and state_std come together: give both or neither.")
        self._name = str(model)
        self._history = history
        self._window = window
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
        """The name that the model was asked for by."""
        return self._name

    def missing(self) -> Iterator[str]:
        """Yield what the model lacks here; see :func:`namm_mm.models.missing.missing`."""
        yield from missing(self._name, tokenizer=False)

    def load(self) -> None:
        """Load weights, configuration and state statistics.

        Raises
        ------
        UsageError
            The device is absent, the model is unknown or none of this class, or no statistics of
            its states are known.
        RunError
            Files are missing or damaged.
        """
        from transformers import DecisionTransformerConfig, DecisionTransformerModel

        from namm_mm.models.resolve import resolve

        device = loading.choose_device(self._device)
        source = resolve(self._name)
        try:
            content, _ = DecisionTransformerConfig.get_config_dict(source)
            config = DecisionTransformerConfig.from_dict(
                {**content, "model_type": DecisionTransformerConfig.model_type}
            )
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{source}: cannot read the configuration: {error}") from error
        if content.get("model_type") != config.model_type:
            raise UsageError(
                message(
                    f"{self._name!r} is not a Decision Transformer",
                    given=content.get("model_type"),
                    expected=f"model_type {config.model_type!r} in config.json",
                )
            )
        config.bos_token_id = config.eos_token_id = None  # 50256 is outside its vocabulary of one
        facts = self._find_facts(source, config)
        try:
            with _without_progress_bars():
                loaded: Any = DecisionTransformerModel.from_pretrained(
                    source,
                    config=config,
                    dtype=loading.choose_dtype(self._dtype, device),
                    output_loading_info=True,
                )
            model, info = loaded
        except Exception as error:  # safetensors, huggingface_hub and torch each have their own
            raise RunError(f"{source}: cannot load the weights: {error}") from error
        if missing := sorted(info["missing_keys"]):  # transformers would make them up
            raise RunError(
                f"{source}: the weights lack {len(missing)} tensors, {missing[0]!r} first."
            )
        self._model = model.to(device).eval()
        self._facts = facts

    def _find_facts(self, source: Path | str, config: Any) -> ControlFacts:
        window = int(getattr(config, "max_length", None) or 20)
        file = Path(source) / CONTROL_FILE
        if self._statistics is not None:
            facts = ControlFacts(*self._statistics, window=window)
        elif file.is_file():
            facts = read_facts(file)
        elif statistics := published_statistics(self._name):
            facts = ControlFacts(*statistics, window=window)
        else:
            raise UsageError(
                message(
                    "no statistics of the states are known for this model",
                    given=self._name,
                    expected=f"a {CONTROL_FILE} beside the weights, the options state_mean and "
                    "state_std, or a published checkpoint "
                    f"({', '.join(sorted(STATE_STATISTICS))})",
                )
            )
        if not len(facts.state_mean) == len(facts.state_std) == config.state_dim:
            raise UsageError(
                message(
                    f"the state statistics do not fit {self._name!r}",
                    given=f"{len(facts.state_mean)} means, {len(facts.state_std)} deviations",
                    expected=f"{config.state_dim} of each",
                )
            )
        return facts

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

        A `memory`, attached to `backbone` by the caller, is reset: its sequences begin here.
        """
        from namm_mm.adapters.control.agents import StreamingAgent, WindowAgent

        model, facts = self._loaded()
        normalization = self._normalization(environments)
        if self._history == "window":
            if memory is not None:
                raise UsageError(
                    "history=window re-encodes its steps and has no cache to forget from: "
                    "use history=cache with a policy, or run history=window without a memory."
                )
            window = self._window or facts.window
            return WindowAgent(model, normalization, environments, target_return, window)
        if memory is not None:
            memory.reset()
        return StreamingAgent(model, normalization, environments, target_return, memory)

    def window_agent(self, environments: int, tokens: int, *, target_return: float) -> WindowAgent:
        """Start new episodes without a memory: the last `tokens` are encoded anew at every step.

        Raises
        ------
        UsageError
            They make no whole steps of return, state and action.
        """
        from namm_mm.adapters.control.agents import TOKENS_PER_STEP, WindowAgent

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
        import torch

        from namm_mm.adapters.control.agents import Normalization

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


def read_facts(path: Path) -> ControlFacts:
    """Read a ``control.json``; a `RunError` names the file if it is unreadable or wrong."""
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts = ControlFacts(
            state_mean=tuple(map(float, content["state_mean"])),
            state_std=tuple(map(float, content["state_std"])),
            scale=float(content["scale"]),
            window=int(content["window"]),
        )
        numbers = (*facts.state_mean, *facts.state_std, facts.scale)
        if not all(map(math.isfinite, numbers)) or min(*facts.state_std, facts.scale) <= 0:
            raise ValueError("means must be finite, deviations and scale positive")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            message(
                f"{path} is damaged",
                given=f"{type(error).__name__}: {error}",
                expected="state_mean, state_std, scale and window",
            )
        ) from error
    return facts


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for a model that loads in a blink."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
