"""Load a model of transformers onto the right device, with one clear error for each failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, UsageError, message

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


def check_device(name: str) -> None:
    """Raise `UsageError` unless `name` is the name of a device, which may be absent here."""
    if name.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise UsageError(
            message("unknown device", given=name, expected="auto, cpu, cuda or cuda:N")
        )


def check_weights(info: Mapping[str, Any], source: Path | str, name: str, kind: str) -> None:
    """Raise `RunError` if weights are missing, which transformers fills with random numbers."""
    missing = sorted(info["missing_keys"])
    if missing:
        raise RunError(
            message(
                f"{name!r} lacks {len(missing)} weights",
                given=missing[0],
                expected=f"all weights of {kind} in {source}",
            )
        )


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` takes CUDA where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            message(
                "the device is absent",
                given=name,
                expected=f"cpu, or one of {torch.cuda.device_count()} CUDA devices",
                then="`namm-mm doctor` says what torch sees; device=auto takes what there is.",
            )
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called `name`; ``auto`` is bfloat16 where `device` computes in it."""
    import torch

    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bfloat16()
        return torch.bfloat16 if native else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def cpu_capabilities() -> dict[str, Any]:
    """Return the capabilities of the processor; empty where torch is too old to tell them."""
    import torch

    try:
        return dict(torch.cpu.get_capabilities())
    except AttributeError:
        return {}


def cpu_has_bfloat16() -> bool:
    """Return whether the processor computes in bfloat16 natively."""
    capabilities = cpu_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def configuration(source: Path | str, name: str) -> Any:
    """Return the configuration of transformers in `source`; raise `RunError` if it is damaged."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source)
    except Exception as error:  # as below
        raise RunError(
            message(
                f"cannot read the configuration of {name!r} ({_first_line(error)})",
                given=str(source),
                expected="a config.json in hub layout",
            )
        ) from error


def _why(error: ValueError) -> str:
    """The reason, unless it is that no causal language model has such a configuration."""
    known = "Unrecognized configuration class" in str(error)
    return "" if known else f" ({_first_line(error)})"


def causal_model(
    source: Path | str, name: str, dtype: torch.dtype, *, config: Any = None, **placement: Any
) -> Any:
    """Load a causal language model and return it; every weight must be in its files.

    Parameters
    ----------
    source
        What :func:`namm_mm.models.resolve.resolve` returned for `name`.
    name
        The model's name as the user wrote it, for messages.
    dtype
        Dtype of the weights.
    config
        A configuration to use instead of the model's own.
    placement
        Further arguments of ``from_pretrained``: a device map, a quantisation.

    Raises
    ------
    UsageError
        It is not a causal language model.
    RunError
        Files are missing or damaged, or weights are missing in them.
    """
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, config=config, output_loading_info=True, **placement
        )
        model, info = loaded
    except ValueError as error:
        raise UsageError(
            message(
                f"{name!r} is not a causal language model{_why(error)}",
                given=str(source),
                expected="a model that AutoModelForCausalLM loads",
                then="A video model is asked about a video: `namm-mm ask` with --file clip.mp4, "
                "or adapter=llava_video task=video_qa.",
            )
        ) from error
    except Exception as error:  # safetensors, huggingface_hub and torch each have their own
        raise RunError(
            message(
                f"cannot load the weights of {name!r} ({type(error).__name__}: "
                f"{_first_line(error)})",
                given=str(source),
                expected="a complete model in hub layout",
                then="`namm-mm list` shows what is cached and how to get the rest.",
            )
        ) from error
    check_weights(info, source, name, type(model).__name__)
    return model


def tokenizer(source: Path | str, name: str) -> Any:
    """Return the tokenizer of a model; raise `RunError` if its files are missing or damaged."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source)
    except Exception as error:  # as above
        raise RunError(
            message(
                f"cannot load the tokenizer of {name!r} ({_first_line(error)})",
                given=str(source),
                expected="tokenizer files in hub layout beside the weights",
            )
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
