"""A CUDA device that is not there: tensors that say `cuda`, computed on the CPU.

What would make the host wait for a real device is counted, with the line that asked for it: a
number that is read (``item``, ``bool``, ``int``), a copy to the host, a copy to the device that is
not ``non_blocking``, and operators whose result has a size that only the device knows (``nonzero``,
an index that is a mask, ``repeat_interleave`` without ``output_size``). Operators that mix tensors
of both devices are refused as CUDA refuses them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import namm_mm
from namm_mm.kernels import Kernels, Regions, choosing
from namm_mm.observations.formula import Formula

CUDA = torch.device("cuda", 0)

_aten = torch.ops.aten
SIZED_BY_THE_DEVICE = {
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._unique2.default,
    _aten.unique_dim.default,
}
OUTSIDE = "a line that is not of the package"


class OnDevice(Tensor):
    """A tensor that says it lies on the simulated device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CUDA,
        )
        made.held = held
        return made

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        device = SimulatedCuda.entered[-1]
        if function in _INDEXING:  # torch asks for a driver there, and in `contiguous`
            return device.index(function, args)
        if function is Tensor.contiguous:
            return args[0] if args[0].is_contiguous() else args[0].clone(memory_format=_DENSE)
        if function in _WITHOUT_DRIVER:
            return _WITHOUT_DRIVER[function](*args, **(kwargs or {}))
        if function in _READING:
            return device.read(function, args)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{operator} on the simulated device, outside of it")


_TENSOR = torch.tensor
_DENSE = torch.contiguous_format
_WITHOUT_DRIVER: dict[Any, Any] = {
    Tensor.copy_: _aten.copy_.default,
    Tensor.__invert__: torch.bitwise_not,
    Tensor.nonzero: _aten.nonzero.default,
    Tensor.untyped_storage: lambda given: given.held.untyped_storage(),
    Tensor.cpu: lambda given: given.to("cpu"),
    Tensor.__bool__: lambda given: bool(given.item()),
    Tensor.__int__: lambda given: int(given.item()),
    Tensor.__float__: lambda given: float(given.item()),
}
_READING = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
_INDEXING = (Tensor.__getitem__, Tensor.__setitem__)


class SimulatedCuda(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, tensors may be made on and moved to the simulated device.

    Attributes
    ----------
    waits
        What made the host wait, and the line of the package that asked for it.
    """

    kernels: _Through | None = None
    entered: ClassVar[list[SimulatedCuda]] = []

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def move(self, model: nn.Module) -> nn.Module:
        """Put the parameters and buffers of `model` onto the device; return it."""
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    moved = OnDevice(parameter.detach())
                    module._parameters[name] = nn.Parameter(moved, requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = OnDevice(buffer)
        return model

    def __enter__(self) -> Any:
        SimulatedCuda.entered.append(self)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        SimulatedCuda.entered.pop()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def tensor(self, numbers: Any, *, device: Any = None, dtype: Any = None) -> Tensor:
        """Stand for `torch.tensor`."""
        made = _TENSOR(numbers, dtype=dtype)
        if device is None or torch.device(device).type != "cuda":
            return made
        self._wait("numbers copied to the device")
        return OnDevice(made)

    def read(self, function: Any, args: Any) -> Any:
        """Give the host a copy of all numbers."""
        self._wait("numbers read")
        return function(args[0].held, *args[1:])

    def index(self, function: Any, args: Any) -> Any:
        """Read or write a part of a tensor."""
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        for place in places:
            if isinstance(place, Tensor) and place.dtype == torch.bool:
                self._wait("an index that is a mask")
            elif isinstance(place, Tensor | list) and not isinstance(place, OnDevice):
                self._wait("an index on the host")
        if function is Tensor.__setitem__ and isinstance(args[2], Tensor):
            if isinstance(args[0], OnDevice) != isinstance(args[2], OnDevice):
                self._wait("a copy between devices")
        elif not isinstance(args[0], OnDevice):
            raise RuntimeError("a tensor of the host with an index on the device")
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            found = function(*_each(args, lambda given: _held(given, [])))
        return OnDevice(found) if isinstance(found, Tensor) else found

    def _wait(self, what: str) -> None:
        package = Path(namm_mm.__file__).parent
        own = [f for f in traceback.extract_stack() if package in Path(f.filename).parents]
        line = f"{Path(own[-1].filename).name}: {own[-1].line}" if own else OUTSIDE
        self.waits.append(f"{what} at {line}")

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors: list[Tensor] = []
        held = _each((args, kwargs), lambda given: _held(given, tensors))
        inside = [isinstance(tensor, OnDevice) for tensor in tensors]
        asked = kwargs.get("device")
        on_device = any(inside) if asked is None else torch.device(asked).type == "cuda"
        self._count(operator, args, kwargs, tensors, inside)
        if asked is not None:
            held[1]["device"] = torch.device("cpu")
        out = operator(*held[0], **held[1])
        if operator is _aten._local_scalar_dense.default or not on_device:
            return out
        same = {id(given.held): given for given in tensors if isinstance(given, OnDevice)}

        def there(found: Tensor) -> Tensor:
            return same[id(found)] if id(found) in same else OnDevice(found)

        return _each(out, there)

    def _count(
        self,
        operator: Any,
        args: Any,
        kwargs: Mapping[str, Any],
        tensors: Sequence[Tensor],
        inside: Sequence[bool],
    ) -> None:
        asked = kwargs.get("device")
        if operator is _aten._to_copy.default:
            target = inside[0] if asked is None else torch.device(asked).type == "cuda"
            if target != inside[0] and not (target and kwargs.get("non_blocking")):
                self._wait("copy to the device" if target else "copy to the host")
        elif operator is _aten.copy_.default:
            blocking = not (inside[0] and len(args) > 2 and args[2])
            if inside[0] != inside[1] and blocking:
                self._wait("copy to the device" if inside[0] else "copy to the host")
        elif not any(inside):
            return
        elif operator is _aten._local_scalar_dense.default:
            self._wait("a number read")
        elif operator in SIZED_BY_THE_DEVICE or (
            operator is _aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
        ):
            self._wait(str(operator))
        elif operator in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default):
            for index in args[1]:
                if index is not None and index.dtype == torch.bool:
                    self._wait("an index that is a mask")
                elif index is not None and not isinstance(index, OnDevice):
                    self._wait("an index on the host")
        elif any(not own and tensor.dim() for own, tensor in zip(inside, tensors, strict=True)):
            raise RuntimeError(f"{operator}: tensors on two devices")


def _held(given: Tensor, tensors: list[Tensor]) -> Tensor:
    tensors.append(given)
    return given.held if isinstance(given, OnDevice) else given


def _each(given: Any, change: Callable[[Tensor], Any]) -> Any:
    """`given` with all its tensors changed."""
    if isinstance(given, Tensor):
        return change(given)
    if isinstance(given, tuple | list):
        return type(given)([_each(one, change) for one in given])
    if isinstance(given, Regions):
        return Regions(**_each(vars(given), change))
    if isinstance(given, Formula):
        return Formula(**_each(vars(given), change))
    if isinstance(given, dict):
        return {name: _each(one, change) for name, one in given.items()}
    return given


class _Through:
    """Kernels that take tensors of the simulated device, and give such."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels, self.runs = kernels, 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.kernels, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            self.runs += name == "fold"
            with _disable_current_modes():
                args, kwargs = _each((args, kwargs), lambda given: _held(given, []))
                return _each(function(*args, **kwargs), OnDevice)

        return run


@contextmanager
def simulated_cuda(kernels: Kernels | None = None) -> Iterator[SimulatedCuda]:
    """Enter a simulated device, for which there are `kernels`."""
    torch._C._ensureCUDADeviceGuardSet()
    device = SimulatedCuda()
    found = None if kernels is None else _Through(kernels)
    device.kernels = found
    with (
        mock.patch.object(choosing, "_triton", return_value=found),
        mock.patch.object(torch.cuda, "_lazy_init"),
        mock.patch.object(torch, "tensor", device.tensor),
        mock.patch.object(Tensor, "pin_memory", lambda given: given),
        device,
    ):
        yield device
