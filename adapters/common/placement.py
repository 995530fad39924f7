"""How weights are loaded: dtype, device or devices, quantisation, attention kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.common import loading
from namm_mm.errors import RunError, UsageError, message

if TYPE_CHECKING:
    import torch

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
QUANTIZATIONS = ("4bit", "8bit")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


@dataclass(frozen=True)
class Placement:
    """How the weights of a model are loaded. Names are checked at construction.

    Attributes
    ----------
    dtype
        Dtype of the weights, or of the computation with quantised ones: ``auto``, ``float32``, ...
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``; ignored with a `device_map`.
    device_map
        None puts all on one device. ``auto`` or ``balanced`` spread layers over all GPUs, as
        accelerate does. A mapping from module names to devices names the place of each.
    quantization
        ``4bit`` (NF4, scales quantised too) or ``8bit`` by bitsandbytes; None keeps the weights.
    attention
        Kernel of everything that runs without a memory, the vision tower included; a memory
        computes attention itself. None leaves it to transformers.

    Raises
    ------
    UsageError
        A name is unknown.
    """

    dtype: str = "auto"
    device: str = "auto"
    device_map: str | Mapping[str, Any] | None = None
    quantization: str | None = None
    attention: str | None = None

    def __post_init__(self) -> None:
        for name, given, valid in (
            ("dtype", self.dtype, loading.DTYPES),
            ("device_map", self.device_map, DEVICE_MAPS),
            ("quantization", self.quantization, QUANTIZATIONS),
            ("attention", self.attention, ATTENTIONS),
        ):
            if isinstance(given, str) and given not in valid:
                raise UsageError(
                    message(f"unknown {name}", given=given, expected="a known one", valid=valid)
                )
        loading.check_device(self.device)

    def choose(self) -> tuple[torch.device, torch.dtype]:
        """Return the device and dtype to compute on; raise `UsageError` for an absent device."""
        device = loading.choose_device(self.device)
        return device, loading.choose_dtype(self.dtype, device)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of ``from_pretrained``.

        Raises
        ------
        UsageError
            A device is absent.
        RunError
            A package that is needed is not installed, or quantised weights lack a CUDA device.
        """
        device, dtype = self.choose()
        found: dict[str, Any] = {"dtype": dtype}
        if self.attention is not None:
            _need_kernel(self.attention)
            found["attn_implementation"] = self.attention
        if self.device_map is not None:
            whole = isinstance(self.device_map, str)
            found["device_map"] = self.device_map if whole else dict(self.device_map)  # type: ignore[arg-type]
        if self.quantization is not None:
            found["quantization_config"] = _quantizer(self.quantization, dtype)
            found.setdefault("device_map", {"": device})
        return found

    def to_device(self, model: Any) -> Any:
        """Return a loaded model on its device, in evaluation mode."""
        if self.device_map is None and self.quantization is None:
            model = model.to(self.choose()[0])
        return model.eval()


def _need_kernel(name: str) -> None:
    package = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
    if name in package and find_spec(package[name]) is None:
        raise RunError(
            message(
                f"the attention kernel {name!r} is not installed",
                given=package[name],
                expected="an installed package",
                then="Use attention=sdpa, which picks a fused kernel of torch.",
            )
        )


def _quantizer(name: str, dtype: torch.dtype) -> Any:
    if find_spec("bitsandbytes") is None:
        raise RunError(
            message(
                "quantised loading needs the package bitsandbytes",
                given=f"quantization={name}",
                expected="an installed package",
                then="Run `pip install bitsandbytes`, or leave quantization at null.",
            )
        )
    import torch

    if not torch.cuda.is_available():
        raise RunError(
            message(
                "quantised loading needs a CUDA device",
                given=f"quantization={name}",
                expected="a GPU that torch sees",
                then="`namm-mm doctor` says what torch sees; leave quantization at null on a CPU.",
            )
        )
    import transformers

    made: Any = transformers.BitsAndBytesConfig
    if name == "8bit":
        return made(load_in_8bit=True)
    return made(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
