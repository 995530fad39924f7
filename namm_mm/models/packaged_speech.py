"""Whisper out of a file of CTranslate2: the same weights under their names in transformers.

The file (version 6 of its format, float16) begins with the name of the specification and the number
of tensors. A tensor is its name, rank, sizes, the number of its type, its bytes' length and its
bytes; all numbers are little-endian, and a text ends with a zero. CTranslate2 joins the query, key
and value matrices of self-attention, and the key and value matrices of attention to the sound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Arrays = Mapping[str, NDArray[Any]]

VERSION, SPECIFICATION = 6, "WhisperSpec"
TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2")
"""Types of numbers by their number in the file."""

MELS, RATE, START = 80, 16_000, 50_257
"""Bands of the spectrogram, samples per second, and the first token of a transcript."""


def write(file: Path, folder: Path) -> None:
    """Save the whole Whisper of a CTranslate2 `file` in hub layout, with the tokenizer beside it.

    Raises
    ------
    RunError
        The file is of another format or model, or lacks a tensor.
    """
    import torch
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    weights = renamed(read(file))
    made: dict[str, Any] = {"model": WhisperForConditionalGeneration, "sizes": WhisperConfig}
    config = made["sizes"](**_sizes(weights))
    model = made["model"](config)
    wrong = model.load_state_dict(weights, strict=False)
    missing = [name for name in wrong.missing_keys if name != "proj_out.weight"]  # is tied
    if missing or wrong.unexpected_keys:
        name = sorted([*missing, *wrong.unexpected_keys])[0]
        raise _other(file, f"a tensor that is missing or unknown: {name}")
    model.tie_weights()
    model.to(torch.float16).save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_file=str(file.with_name("tokenizer.json"))).save_pretrained(folder)
    extractor: Any = WhisperFeatureExtractor
    extractor(feature_size=MELS, sampling_rate=RATE).save_pretrained(folder)


def read(file: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a CTranslate2 file under its own names; they are views of its bytes.

    Raises
    ------
    RunError
        The file is of another format, or cut off.
    """
    import numpy as np

    data, at = file.read_bytes(), 0

    def number(kind: str) -> int:
        nonlocal at
        (found,) = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(f"<{kind}")
        return int(found)

    def text() -> str:
        nonlocal at
        length = number("H")
        at += length
        return data[at - length : at - 1].decode()

    try:
        version, specification = number("I"), text()
        if (version, specification) != (VERSION, SPECIFICATION):
            raise _other(file, f"version {version} of {specification!r}")
        number("I")  # revision
        found = {}
        for _ in range(number("I")):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            kind: Any = np.dtype(TYPES[number("B")])
            length = number("I")
            count = length // kind.itemsize
            found[name] = np.frombuffer(data, kind, count, at).reshape(shape)
            at += length
        return found
    except (struct.error, ValueError, IndexError) as error:  # a UnicodeDecodeError is a ValueError
        raise _other(file, f"bytes that do not fit ({error})") from error


def renamed(arrays: Arrays) -> dict[str, Tensor]:
    """Return the tensors under the names that they have in transformers, in float32."""
    found: dict[str, Tensor] = {}
    for side in ("encoder", "decoder"):
        found |= _of_side(arrays, side)
    return found


def _of_side(arrays: Arrays, side: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def put(name: str, source: str, part: int = 0, parts: int = 1) -> None:
        import numpy as np
        import torch

        if source not in arrays:
            return  # what is missing is told with the names of transformers
        array = np.array_split(arrays[source].astype(np.float32), parts)[part]
        found[f"model.{side}.{name}"] = torch.from_numpy(array.copy())

    def both(name: str, source: str, kinds: Sequence[str] = ("weight", "bias")) -> None:
        for own, their in zip(("weight", "bias"), kinds, strict=True):
            put(f"{name}.{own}", f"{side}/{source}/{their}")

    put("embed_positions.weight", f"{side}/position_encodings/encodings")
    both("layer_norm", "layer_norm", _NORM)
    if side == "encoder":
        both("conv1", "conv1")
        both("conv2", "conv2")
    else:
        put("embed_tokens.weight", f"{side}/embeddings/weight")
    for number in _layers(arrays, side):
        layer, source = f"layers.{number}", f"layer_{number}"
        attentions = {"self_attn": "self_attention"}
        if side == "decoder":
            attentions["encoder_attn"] = "attention"
        for attention, theirs in attentions.items():
            both(f"{layer}.{attention}_layer_norm", f"{source}/{theirs}/layer_norm", _NORM)
            last = 0
            for linear, projections in enumerate(_JOINED[attention]):
                joined = f"{side}/{source}/{theirs}/linear_{linear}"
                for part, projection in enumerate(projections):
                    place, parts = f"{layer}.{attention}.{projection}", len(projections)
                    put(f"{place}.weight", f"{joined}/weight", part, parts)
                    if projection != "k_proj":  # its bias is zero, and has no place
                        put(f"{place}.bias", f"{joined}/bias", part, parts)
                last = linear + 1
            both(f"{layer}.{attention}.out_proj", f"{source}/{theirs}/linear_{last}")
        both(f"{layer}.final_layer_norm", f"{source}/ffn/layer_norm", _NORM)
        both(f"{layer}.fc1", f"{source}/ffn/linear_0")
        both(f"{layer}.fc2", f"{source}/ffn/linear_1")
    return found


_NORM = ("gamma", "beta")
_JOINED = {
    "self_attn": (("q_proj", "k_proj", "v_proj"),),
    "encoder_attn": (("q_proj",), ("k_proj", "v_proj")),
}
"""Which projections CTranslate2 has joined, in the order of its matrices."""


def _layers(arrays: Arrays, side: str) -> Iterator[int]:
    number = 0
    while f"{side}/layer_{number}/ffn/linear_0/weight" in arrays:
        yield number
        number += 1


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes of the configuration, from the shapes of the weights; a head has 64."""
    words, width = weights["model.decoder.embed_tokens.weight"].shape
    inner = weights["model.encoder.layers.0.fc1.weight"].shape[0]
    sizes = {"vocab_size": words, "d_model": width, "num_mel_bins": MELS}
    for side in ("encoder", "decoder"):
        sizes[f"{side}_layers"] = sum(
            name.startswith(f"model.{side}.layers.") and name.endswith(".fc1.weight")
            for name in weights
        )
        sizes[f"{side}_ffn_dim"] = inner
        sizes[f"{side}_attention_heads"] = width // 64
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), START - 1)
    return {**sizes, **ends, "decoder_start_token_id": START}


def _other(file: Path, what: str) -> RunError:
    return RunError(
        message(
            f"{file.name} is no Whisper of CTranslate2",
            given=what,
            expected=f"version {VERSION} of {SPECIFICATION!r}, whole",
        )
    )
