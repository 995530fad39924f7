"""The adapter video: Qwen-VL, InternVL and SmolVLM read clips as their video processors do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import image_checkpoints
import numpy as np
import pytest
import torch

from namm_mm import attach, policy
from namm_mm.adapters.video.chat import VideoAdapter
from namm_mm.adapters.video.readers import READERS, QwenReader
from namm_mm.errors import UsageError
from namm_mm.policies import Budget
from namm_mm.records import Sample, TokenType
from namm_mm.tasks.video_qa.encode import write_mp4

pytestmark = pytest.mark.numeric

FRAMES = 5
QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    path = tmp_path_factory.mktemp("clip") / "noise.mp4"
    blocks = np.random.default_rng(0).integers(0, 255, (12, 5, 6, 3), dtype=np.uint8)
    write_mp4(path, blocks.repeat(8, 1).repeat(8, 2), rate=2)
    options = ("red", "blue", "green", "pink")
    return Sample("s", "f", question="What color was it?", options=options, video=path)


@pytest.fixture(scope="module", params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adapter(kind: str, tmp_path_factory: pytest.TempPathFactory) -> VideoAdapter:
    folder = tmp_path_factory.mktemp(kind)
    image_checkpoints.save_checkpoint(folder, kind)
    found = VideoAdapter(model=str(folder), frames=FRAMES, dtype="float32", device="cpu")
    found.load()
    return found


def test_every_placeholder_has_its_frame_row_and_column(
    adapter: VideoAdapter, kind: str, sample: Sample
) -> None:
    inputs = adapter.prepare(sample)
    ids = inputs.tensors["input_ids"][0].tolist()
    types = [one for one in inputs.token_types if one.kind == "frame"]
    assert len(inputs.token_types) == len(ids)
    assert len(types) == ids.count(adapter.loaded.placeholder_token)
    depth = 2 if kind in QWEN else 1
    rows, columns = (2, 3) if kind in QWEN else (2, 2)
    wanted = [
        TokenType("frame", frame, row, column)
        for frame in range(0, FRAMES, depth)
        for row in range(rows)
        for column in range(columns)
    ]
    assert types == wanted


def test_the_answer_is_that_of_one_plain_forward(adapter: VideoAdapter, sample: Sample) -> None:
    inputs = adapter.prepare(sample)
    with torch.no_grad():
        logits = adapter.loaded.model(**inputs.tensors).logits[0, -1]
    letters = adapter.tokenizer.convert_tokens_to_ids(["A", "B", "C", "D"])
    wanted = logits.log_softmax(-1)[letters].tolist()
    assert adapter.answer(inputs, None).log_probabilities == pytest.approx(wanted, abs=1e-4)
    with attach(adapter.backbone, policy("full"), interval=8) as memory:
        full = adapter.answer(inputs, memory)
    assert full.log_probabilities == pytest.approx(wanted, abs=1e-3)
    short = policy("recency", budget=Budget(tokens=8))
    with attach(adapter.backbone, short, interval=8) as memory:
        less = adapter.answer(inputs, memory)
        assert memory.usage().tokens_final < 16
    assert less.log_probabilities != pytest.approx(wanted, abs=1e-2)


def test_generating_says_what_generate_says(adapter: VideoAdapter, sample: Sample) -> None:
    writer = VideoAdapter(model="the same", frames=FRAMES, answer_by="generate", max_new_tokens=6)
    writer.use(adapter.loaded)
    inputs = adapter.prepare(sample)
    output = adapter.loaded.model.generate(**inputs.tensors, max_new_tokens=6, do_sample=False)
    new = output[0, len(inputs.token_types) :]
    text = adapter.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert writer.answer(inputs, None).text == text
    with attach(writer.backbone, policy("full"), interval=8) as memory:
        assert writer.answer(inputs, memory).text == text


@pytest.mark.parametrize("qwen", QWEN)
def test_a_patch_of_qwen_holds_two_frames_as_its_video_processor_lays_them_out(
    qwen: str, tmp_path: Path
) -> None:
    """The view and the permutation of ``patchify`` in transformers' video processor."""
    image_checkpoints.save_checkpoint(tmp_path, qwen)
    adapter = VideoAdapter(model=str(tmp_path), dtype="float32", device="cpu")
    adapter.load()
    reader: Any = adapter.loaded.processor.video_processor
    assert isinstance(reader, QwenReader)
    frames = np.random.default_rng(0).integers(0, 255, (4, 32, 48, 3), dtype=np.uint8)
    found = reader.read(frames)
    mean, std = (torch.tensor(reader.pixels.image_mean), torch.tensor(reader.pixels.image_std))
    clip = (torch.from_numpy(frames) / 255 - mean) / std
    patch = image_checkpoints.PATCH
    view = clip.permute(0, 3, 1, 2).view(1, 2, 2, 3, 2, 2, patch, 3, 2, patch)
    wanted = view.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(2 * 4 * 6, -1)
    assert found["video_grid_thw"].tolist() == [[2, 4, 6]]
    assert torch.allclose(found["pixel_values_videos"], wanted, atol=1e-5)
    odd = reader.read(frames[:3])
    assert odd["video_grid_thw"].tolist() == [[2, 4, 6]]
    repeated = reader.read(frames[[0, 1, 2, 2]])["pixel_values_videos"]
    assert torch.allclose(odd["pixel_values_videos"], repeated)


@pytest.mark.parametrize("tower", ["internvl", "smolvlm"])
def test_a_frame_is_one_square_of_the_size_for_videos(tower: str, tmp_path: Path) -> None:
    from PIL import Image

    image_checkpoints.save_checkpoint(tmp_path, tower)
    adapter = VideoAdapter(model=str(tmp_path), dtype="float32", device="cpu")
    adapter.load()
    reader: Any = adapter.loaded.processor.video_processor
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    found = reader.read(frames)
    pixels = found["pixel_values_videos" if tower == "internvl" else "pixel_values"]
    edge = image_checkpoints.EDGE
    assert pixels.shape == (1, 3, 3, edge, edge)
    kind = Image.Resampling(int(reader.pixels.resample))
    small = np.asarray(Image.fromarray(frames[1]).resize((edge, edge), kind)) / 255
    wanted = (small - np.array(reader.pixels.image_mean)) / np.array(reader.pixels.image_std)
    assert np.abs(pixels[0, 1].permute(1, 2, 0).numpy() - wanted).max() < 1e-4


def test_another_class_is_refused_with_the_adapter_that_serves_it(tmp_path: Path) -> None:
    image_checkpoints.save_checkpoint(tmp_path, "llava")
    with pytest.raises(UsageError, match="adapter=llava_video serves"):
        VideoAdapter(model=str(tmp_path)).load()


def test_a_question_with_the_placeholder_is_refused(adapter: VideoAdapter, sample: Sample) -> None:
    words = f"What is {adapter.loaded.placeholder} ?"
    with pytest.raises(UsageError, match="video placeholder"):
        adapter.prepare(Sample("s", "f", question=words, video=sample.video))
    with pytest.raises(UsageError, match="has no video"):
        adapter.prepare(Sample("s", "f", question="What?"))
