"""Load a ``DecisionTransformerModel`` of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from namm_mm.adapters.common import loading
from namm_mm.errors import RunError, UsageError, message

WINDOW = 20
"""Steps that published models were trained on at once."""


def read_config(source: Path | str, name: str) -> tuple[Any, int]:
    """Read the configuration of the model that was found as `source` for `name`.

    Returns
    -------
    config, window
        The configuration, and the steps that the model was trained on at once: ``max_length`` of
        its ``config.json``, which the configuration of transformers leaves out.

    Raises
    ------
    UsageError
        It is no Decision Transformer.
    RunError
        It cannot be read.
    """
    from transformers import DecisionTransformerConfig

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
                f"{name!r} is not a Decision Transformer",
                given=content.get("model_type"),
                expected=f"model_type {config.model_type!r} in config.json",
            )
        )
    config.bos_token_id = config.eos_token_id = None  # 50256 is outside a vocabulary of 1
    return config, int(content.get("max_length") or WINDOW)


def load_model(source: Path | str, config: Any, *, device: str, dtype: str) -> Any:
    """Return the model in evaluation mode.

    Raises
    ------
    UsageError
        The device is absent.
    RunError
        Weights are missing or damaged.
    """
    from transformers import DecisionTransformerModel

    place = loading.choose_device(device)
    try:
        with _without_progress_bars():
            loaded: Any = DecisionTransformerModel.from_pretrained(
                source,
                config=config,
                dtype=loading.choose_dtype(dtype, place),
                output_loading_info=True,
            )
        model, info = loaded
    except Exception as error:  # safetensors, huggingface_hub and torch each have their own
        raise RunError(f"{source}: cannot load the weights: {error}") from error
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers
        raise RunError(f"{source}: the weights lack {len(missing)} tensors, {missing[0]!r} first.")
    return model.to(place).eval()


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Return a context without progress bars: these models load in less than a second."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
