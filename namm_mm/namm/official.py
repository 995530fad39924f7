"""The checkpoint format that the official trainer writes, in and out.

A ``torch.save`` dictionary of ``evolution_state`` (the state of CMA-ES, which holds the parameter
vector, and six buffers of running statistics), ``iter_num`` and ``best_val_loss``. It says nothing
of the spectrogram or the interval: unless a file of ours adds them, the published ones are assumed.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.namm.params import BINS, layout_of

if TYPE_CHECKING:
    from namm_mm.namm.saved import Saved

VECTORS = ("mean", "best_member")
PUBLISHED = {"gamma": 0.99, "n_fft": 32, "hop": 16, "interval": 512}

_EXTRA = "namm_mm"
_BUFFERS = "stored_buffers_to_save.token_embedding_0_output_"


def read_official(path: Path, *, vector: str = "mean") -> dict[str, Any]:
    """Read a ``.pt`` checkpoint of the official trainer; nothing in it is executed.

    Parameters
    ----------
    path
        The file.
    vector
        ``mean`` of the search distribution, or ``best_member``.

    Returns
    -------
    dict
        The fields of a :class:`~namm_mm.namm.network.Namm`.

    Raises
    ------
    UsageError
        The file is no such checkpoint, lacks a part, or holds a vector of a wrong size.
    """
    if vector not in VECTORS:
        raise UsageError(
            message("unknown vector", given=vector, expected="a vector", valid=VECTORS)
        )
    content = _read(path)
    state = content["evolution_state"]
    parameters = _tensor(path, state, vector).reshape(-1)
    best = f"best_{_BUFFERS}"
    buffers = best if vector == "best_member" and f"{best}mean" in state else _BUFFERS
    statistics = {}
    for name, key in (("mean", "mean"), ("variance", "var")):
        statistics[name] = _tensor(path, state, f"{buffers}{key}").reshape(-1)
    if statistics["variance"].numel() == BINS and not statistics["variance"].any():
        raise UsageError(
            message(
                f"{path}: the running statistics are empty",
                given="variances that are all 0",
                expected="statistics of at least one evaluation, without which features cannot be "
                "normalised",
                then="Take a checkpoint written after the first evaluation.",
            )
        )
    card: dict[str, Any] = {
        "about": f"imported from {path.name}, vector {vector}",
        "made_by": "the official trainer, or one that writes its format",
        "licence": "unknown",
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    if "iter_num" in content:
        card["iter_num"] = int(content["iter_num"])
    if "best_val_loss" in content:
        card["best_val_loss"] = float(content["best_val_loss"])
    settings = {**PUBLISHED, **content.get(_EXTRA, {})}
    try:
        scorer = layout_of(parameters).scorer
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return {"parameters": parameters, **statistics, "scorer": scorer, "card": card, **settings}


def export_official(
    namm: Saved,
    path: str | Path,
    *,
    evolution: Mapping[str, Tensor] | None = None,
    generation: int | None = None,
    samples: int | None = None,
) -> Path:
    """Write a ``.pt`` checkpoint in the format of the official trainer.

    Only what is known is written. Without `evolution` the file can be evaluated, not resumed.

    Parameters
    ----------
    namm
        Its vector becomes ``mean``, its statistics the ``output`` buffers.
    path
        The file to write.
    evolution
        State of the search (``sigma``, ``C``, ``evo_path_c`` ...), under the official names.
    generation
        Becomes ``iter_num``.
    samples
        How many spectra the statistics pool.
    """
    state: dict[str, Tensor] = {k: v.detach().cpu() for k, v in (evolution or {}).items()}
    state["mean"] = namm.parameters.detach().cpu().clone()
    shape = (1, 1, 1, BINS)
    state[f"{_BUFFERS}mean"] = namm.mean.detach().cpu().reshape(shape).clone()
    state[f"{_BUFFERS}var"] = namm.variance.detach().cpu().reshape(shape).clone()
    if samples is not None:
        state[f"{_BUFFERS}num"] = torch.full(shape, samples, dtype=torch.int64)
    content: dict[str, Any] = {"evolution_state": state}
    if generation is not None:
        content["iter_num"] = generation
    content[_EXTRA] = {name: getattr(namm, name) for name in PUBLISHED}
    path = Path(path)
    torch.save(content, path)
    return path


def _read(path: Path) -> dict[str, Any]:
    # `best_val_loss` may be a numpy scalar: that one type is let in, under the names that numpy 1
    # and 2 pickle it by, and nothing else.
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32")]
    allowed: list[Any] = [*((scalar, name) for name in names), np.dtype, *kinds]
    expected = "a torch.save file of the official trainer, with `evolution_state`"
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of other pickles before it refuses them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(
            message(f"cannot open {path}", given=str(error), expected=expected)
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        given = f"a file that holds more than tensors and numbers, or none ({type(error).__name__})"
        raise UsageError(message(f"cannot read {path}", given=given, expected=expected)) from error
    if not isinstance(content, dict) or not isinstance(content.get("evolution_state"), dict):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UsageError(message(f"{path} is no NAMM checkpoint", given=found, expected=expected))
    return content


def _tensor(path: Path, state: Mapping[str, Any], key: str) -> Tensor:
    if not isinstance(state.get(key), Tensor):
        raise UsageError(
            message(
                f"{path}: incomplete evolution_state",
                given=sorted(state),
                expected=f"a tensor {key!r}",
            )
        )
    tensor: Tensor = state[key]
    return tensor.detach().to(torch.float32).clone()
