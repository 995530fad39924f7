"""Whisper out of a CTranslate2 file answers as the model that was put into it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from namm_mm.errors import RunError
from namm_mm.models import fetched, packaged_speech
from namm_mm.sound.reading import RATE
from namm_mm.tasks.speech_qa import speaking

WHISPER = fetched.MODELS["whisper-tiny-en"]
SENTENCE = "The old man walked slowly down to the river and sat on a stone."


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config: Any = transformers.WhisperConfig
    whole: Any = transformers.WhisperForConditionalGeneration
    return whole(
        config(
            vocab_size=50_300, d_model=128, encoder_layers=2, decoder_layers=2,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48,
            decoder_ffn_dim=48, num_mel_bins=80, init_std=0.2,
        )
    ).eval()  # fmt: skip


def joined(model: Any) -> dict[str, np.ndarray]:
    """The weights of a model as CTranslate2 names and joins them."""
    weights = {name: w.numpy() for name, w in model.state_dict().items()}
    found: dict[str, np.ndarray] = {}

    def norm(theirs: str, ours: str) -> None:
        found[f"{theirs}/gamma"], found[f"{theirs}/beta"] = (
            weights[f"{ours}.weight"],
            weights[f"{ours}.bias"],
        )

    def linear(theirs: str, *ours: str) -> None:
        found[f"{theirs}/weight"] = np.concatenate([weights[f"{one}.weight"] for one in ours])
        absent = np.zeros_like(weights[f"{ours[-1]}.bias"])
        found[f"{theirs}/bias"] = np.concatenate(
            [weights.get(f"{one}.bias", absent) for one in ours]
        )

    linear("encoder/conv1", "model.encoder.conv1")
    linear("encoder/conv2", "model.encoder.conv2")
    found["decoder/embeddings/weight"] = weights["model.decoder.embed_tokens.weight"]
    for side in ("encoder", "decoder"):
        places = weights[f"model.{side}.embed_positions.weight"]
        found[f"{side}/position_encodings/encodings"] = places
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for number in range(2):
            theirs, ours = f"{side}/layer_{number}", f"model.{side}.layers.{number}"
            own, other = f"{ours}.self_attn", f"{ours}.encoder_attn"
            norm(f"{theirs}/self_attention/layer_norm", f"{own}_layer_norm")
            linear(
                f"{theirs}/self_attention/linear_0", *(f"{own}.{p}_proj" for p in ("q", "k", "v"))
            )
            linear(f"{theirs}/self_attention/linear_1", f"{own}.out_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            if side == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{other}_layer_norm")
                linear(f"{theirs}/attention/linear_0", f"{other}.q_proj")
                linear(f"{theirs}/attention/linear_1", f"{other}.k_proj", f"{other}.v_proj")
                linear(f"{theirs}/attention/linear_2", f"{other}.out_proj")
    return found


def pack(arrays: dict[str, np.ndarray], version: int = 6) -> bytes:
    """A file of CTranslate2 with these tensors in float16."""

    def text(words: str) -> bytes:
        return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"

    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(arrays))]
    for name, array in arrays.items():
        data = array.astype("<f2").tobytes()
        sizes = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        parts += [text(name), sizes, struct.pack("<BI", 4, len(data)), data]
    return b"".join(parts)


def test_a_model_survives_the_way_through_the_file(model: Any, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(pack(joined(model)))
    weights = packaged_speech.renamed(packaged_speech.read(tmp_path / "model.bin"))
    wanted = model.state_dict()
    assert set(wanted) - set(weights) == {"proj_out.weight"}
    for name, weight in weights.items():
        assert torch.allclose(weight, wanted[name], atol=2e-3), name


def test_files_of_another_make_are_refused(model: Any, tmp_path: Path) -> None:
    arrays = joined(model)
    file = tmp_path / "model.bin"
    file.write_bytes(pack(arrays, version=5))
    with pytest.raises(RunError, match='no Whisper of CTranslate2: got "version 5'):
        packaged_speech.read(file)
    file.write_bytes(pack(arrays)[:-1000])
    with pytest.raises(RunError, match="bytes that do not fit"):
        packaged_speech.read(file)
    del arrays["encoder/layer_1/ffn/linear_1/bias"]
    file.write_bytes(pack(arrays))
    with pytest.raises(RunError, match=r"missing or unknown.*encoder.layers.1.fc2.bias"):
        packaged_speech.write(file, tmp_path)


@pytest.mark.skipif(
    fetched.cached(WHISPER) is None or bool(speaking.missing_program()),
    reason=f"needs `{WHISPER.command}` and espeak-ng",
)
def test_the_real_one_writes_down_what_espeak_says() -> None:
    folder = fetched.located(WHISPER)
    whole: Any = transformers.WhisperForConditionalGeneration
    model = whole.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    extractor: Any = transformers.WhisperFeatureExtractor
    sound = speaking.say(SENTENCE, speaking.Voice("en-us"))
    made = extractor.from_pretrained(folder)(sound, sampling_rate=RATE, return_tensors="pt")
    ids = torch.tensor([[50_257, 50_362]])  # start, without times
    with torch.no_grad():
        heard = model.model.encoder(made.input_features)
        for _ in range(24):
            logits = model(encoder_outputs=heard, decoder_input_ids=ids).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(-1)[:, None]], 1)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).split(".")[0].strip() == SENTENCE[:-1]
