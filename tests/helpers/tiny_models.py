"""Tiny models of every modality, saved as the hub lays them out, and a folder of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import image_checkpoints
import numpy as np
import speech_checkpoints
import text_benchmark_files
import torch
import video_checkpoints
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DecisionTransformerConfig,
    DecisionTransformerModel,
    PreTrainedTokenizerFast,
)

from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.testing.tiny import tiny_llama

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
HOPPER = (11, 3)


def save_all(folder: Path) -> None:
    """Write a folder for each modality, of videos and pictures, and namm.safetensors."""
    _save_text_model(folder / "text")
    video_checkpoints.save_checkpoint(folder / "video", "llava_next_video")
    image_checkpoints.save_checkpoint(folder / "image", "llava")
    image_checkpoints.save_checkpoint(folder / "chat", "qwen2_5_vl")
    speech_checkpoints.save(folder / "speech")
    _save_control_model(folder / "control")
    _save_clips(folder / "clips")
    _save_pictures(folder / "pictures")
    text_benchmark_files.write(folder / "choubun", text_benchmark_files.CHOUBUN)
    text_benchmark_files.write(folder / "infinitebench", text_benchmark_files.INFINITEBENCH)
    torch.manual_seed(0)
    card = {"about": "random numbers, for tests", "made_by": "a test", "licence": "Apache-2.0"}
    namm = Namm(torch.randn(4172), torch.zeros(17), torch.ones(17), card=card)
    save(namm, folder / "namm.safetensors")


def _save_text_model(folder: Path) -> None:
    """A Llama over bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    tiny_llama(vocab_size=len(vocabulary), max_position_embeddings=4096).save_pretrained(folder)


def _save_control_model(folder: Path) -> None:
    state, action = HOPPER
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=state,
        act_dim=action,
        hidden_size=16,
        n_layer=2,
        n_head=2,
        n_positions=1,
        max_ep_len=1000,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    DecisionTransformerModel(config).save_pretrained(folder)
    statistics = {"state_mean": [0.0] * state, "state_std": [1.0] * state}
    control = {**statistics, "scale": 1000.0, "window": 8}
    (folder / "control.json").write_text(json.dumps(control))


def _save_pictures(folder: Path) -> None:
    """Two plain pictures, and a question about both."""
    folder.mkdir()
    for name, color in (("page.png", "red"), ("photo.jpg", "blue")):
        Image.new("RGB", (64, 64), COLORS[color]).save(folder / name)
    line = {"images": ["page.png", "photo.jpg"], "question": "What color is it?"}
    line |= {"options": list(COLORS), "answer": "red"}
    (folder / "questions.jsonl").write_text(json.dumps(line) + "\n")


def _save_clips(folder: Path) -> None:
    """Three whole clips and one that is cut in the middle, each with a question."""
    folder.mkdir()
    questions = []
    for name, color in COLORS.items():
        _write_clip(folder / f"{name}.mp4", color)
        questions.append(_question(f"{name}.mp4", name))
    whole = (folder / "red.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    questions.append(_question("cut.mp4", "red"))
    lines = (json.dumps(question) for question in questions)
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")


def _question(video: str, answer: str) -> dict[str, object]:
    return {
        "id": video,
        "video": video,
        "question": "What color is it?",
        "options": list(COLORS),
        "answer": answer,
    }


def _write_clip(path: Path, color: tuple[int, int, int], frames: int = 12) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 48, 3), color, dtype=np.uint8)
            picture[number : number + 8] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
