"""The video adapter: the three real classes, laid out in tokens as their processors do."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import video_checkpoints

from namm_mm import attach, policy
from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.adapters.video.frames import FramePreprocessor, read_preprocessor
from namm_mm.adapters.video.kinds import KINDS
from namm_mm.errors import RunError, UsageError
from namm_mm.policies import Budget
from namm_mm.records import Sample, TokenType
from namm_mm.tasks.video_qa.encode import write_mp4

pytestmark = pytest.mark.numeric

FRAMES = 5


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    path = tmp_path_factory.mktemp("clip") / "noise.mp4"
    blocks = np.random.default_rng(0).integers(0, 255, (12, 5, 6, 3), dtype=np.uint8)
    write_mp4(path, blocks.repeat(8, 1).repeat(8, 2), rate=6)
    options = ("red", "blue", "green", "pink")
    return Sample(
        "s", "f", question="What color was it?", options=options, answer="red", video=path
    )


@pytest.fixture(scope="module", params=KINDS)
def adapter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> LlavaVideoAdapter:
    folder = tmp_path_factory.mktemp(request.param)
    video_checkpoints.save_checkpoint(folder, request.param)
    found = LlavaVideoAdapter(model=str(folder), frames=FRAMES, dtype="float32", device="cpu")
    found.load()
    assert isinstance(found, AnsweringAdapter)
    return found


def kind(adapter: LlavaVideoAdapter) -> str:
    return str(adapter.loaded.model.config.model_type)


PUBLISHED = [name for name, kind in KINDS.items() if not kind.own_class]


@pytest.mark.parametrize(
    ("model_type", "edge"), [(k, e) for k in PUBLISHED for e in (336, 384, 40)]
)
def test_placeholders_are_as_many_as_the_real_processor_makes(model_type: str, edge: int) -> None:
    module = importlib.import_module(f"transformers.models.{model_type}.processing_{model_type}")
    name = KINDS[model_type].model_class.replace("ForConditionalGeneration", "Processor")
    patch = 8 if edge == 40 else 14
    settings = {
        "patch_size": patch,
        "num_image_tokens": (edge // patch) ** 2,
        "num_additional_image_tokens": 1,
    }
    theirs = SimpleNamespace(video_token="<video>", **settings)
    clip = {"pixel_values_videos": [np.zeros((7, 3, edge, edge), np.float32)]}
    text = getattr(module, name).replace_video_token(theirs, clip, 0)
    ours = KINDS[model_type].layout(edge, edge, settings, SimpleNamespace(vision_config=None))
    assert ours.total(7) == text.count("<video>")


def test_every_token_has_the_type_of_its_frame(adapter: LlavaVideoAdapter, sample: Sample) -> None:
    inputs = adapter.prepare(sample)
    ids = inputs.tensors["input_ids"][0]
    assert len(inputs.token_types) == len(ids)
    video = (ids == adapter.loaded.placeholder_token).nonzero()[:, 0].tolist()
    layout = adapter.loaded.layout(inputs.tensors["pixel_values_videos"][0])
    assert layout.tokens_per_frame >= 4
    frames = [inputs.token_types[at] for at in video[: len(video) - layout.trailing]]
    assert frames == [TokenType("frame", i // layout.tokens_per_frame) for i in range(len(frames))]
    assert frames[-1].index == FRAMES - 1
    rest = set(range(len(ids))) - set(video[: len(frames)])
    assert {inputs.token_types[at] for at in rest} == {TokenType("text")}


def test_the_answer_is_that_of_one_plain_forward(
    adapter: LlavaVideoAdapter, sample: Sample
) -> None:
    inputs = adapter.prepare(sample)
    with torch.no_grad():
        logits = adapter.loaded.model(**inputs.tensors).logits[0, -1]
    letters = adapter.tokenizer.convert_tokens_to_ids(["A", "B", "C", "D"])
    answer = adapter.answer(inputs, None)
    wanted = logits.log_softmax(-1)[letters]
    assert answer.log_probabilities == pytest.approx(wanted.tolist(), abs=1e-4)
    assert answer.option == int(wanted.argmax())
    assert answer.text == sample.options[answer.option]


def test_generating_says_what_generate_says(adapter: LlavaVideoAdapter, sample: Sample) -> None:
    writer = LlavaVideoAdapter(model="the same", answer_by="generate", max_new_tokens=9)
    writer.use(adapter.loaded)
    inputs = adapter.prepare(sample)
    output = adapter.loaded.model.generate(**inputs.tensors, max_new_tokens=9, do_sample=False)
    text = adapter.tokenizer.decode(output[0, len(inputs.token_types) :], skip_special_tokens=True)
    answer = writer.answer(inputs, None)
    assert answer.text == text.strip()
    assert answer.token_seconds > 0


@pytest.mark.parametrize("answer_by", ["options", "generate"])
def test_the_memory_forgets_frames_and_the_answer_notices(
    adapter: LlavaVideoAdapter, sample: Sample, answer_by: str
) -> None:
    found = LlavaVideoAdapter(model="the same", answer_by=answer_by, max_new_tokens=5)
    found.use(adapter.loaded)
    inputs = adapter.prepare(sample)
    with attach(found.backbone, policy("full"), interval=8) as memory:
        full = found.answer(inputs, memory)
        assert memory.usage().seen in range(len(inputs.token_types), len(inputs.token_types) + 6)
    alone = found.answer(inputs, None)
    assert full.text == alone.text
    assert full.log_probabilities == pytest.approx(alone.log_probabilities, abs=1e-3)
    short = policy("recency", budget=Budget(tokens=8))
    with attach(found.backbone, short, interval=8) as memory:
        less = found.answer(inputs, memory)
        assert memory.usage().tokens_final < 16 + 6
    if answer_by == "options":
        assert less.log_probabilities != pytest.approx(full.log_probabilities, abs=1e-2)


def test_pruning_after_the_prefill_prunes_the_video_before_the_question(
    adapter: LlavaVideoAdapter, sample: Sample
) -> None:
    inputs = adapter.prepare(sample)
    short = policy("recency", budget=Budget(tokens=4))
    with attach(adapter.backbone, short, interval=8, protocol="prune_after_prefill") as memory:
        pruned = adapter.answer(inputs, memory)
        asked = (
            inputs.tensors["input_ids"][0].tolist()[::-1].index(adapter.loaded.placeholder_token)
        )
        assert memory.usage().tokens_final == 4 + asked
    assert pruned.log_probabilities != pytest.approx(
        adapter.answer(inputs, None).log_probabilities, abs=1e-2
    )


def test_a_checkpoint_without_a_chat_template_gets_the_prompt_of_its_class(
    adapter: LlavaVideoAdapter, sample: Sample
) -> None:
    text = adapter.tokenizer.decode(adapter.prepare(sample).tensors["input_ids"][0])
    qwen = kind(adapter) == "llava_onevision"
    assert ("ASSISTANT" in text) == (not qwen)
    assert ("are a" in text) == adapter.loaded.kind.own_class
    assert "D . pink Answer with the option" in text


def test_frames_are_resized_cropped_and_normalised_as_by_the_reference() -> None:
    from PIL import Image

    frames = np.random.default_rng(1).integers(60, 200, (3, 6, 9, 3), np.uint8)
    frames = frames.repeat(10, 1).repeat(10, 2)  # 60 x 90
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.25])
    config = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    config |= {"image_mean": mean.tolist(), "image_std": std.tolist()}
    ours = read_preprocessor(config, "llava_next_video")(frames)
    assert ours.shape == (3, 3, 32, 32)
    for frame, found in zip(frames, ours, strict=True):
        small = (
            Image.fromarray(frame).resize((48, 32), Image.Resampling.BICUBIC).crop((8, 0, 40, 32))
        )
        wanted = (np.asarray(small) / 255 - mean) / std
        assert np.abs(found.permute(1, 2, 0).numpy() - wanted).max() < 1.01 / 255 / 0.2
    square = read_preprocessor({}, "llava_onevision")
    assert square(frames).shape == (3, 3, 384, 384)
    bare = FramePreprocessor(size=None, crop=(64, 64), mean=None, std=None)
    assert bare(frames).shape == (3, 3, 64, 64)


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:9"}, "device is absent"),
        ({"device": "tpu"}, "unknown device"),
        ({"dtype": "float23"}, "Did you mean 'float32'"),
        ({"answer_by": "letters"}, "unknown answer_by"),
        ({"frames": 0}, "1 or more"),
        ({"decoder": "deckord"}, "Did you mean 'decord'"),
    ],
)
def test_wrong_options_are_usage_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LlavaVideoAdapter(**options).load()


def save_llama(folder: Path) -> None:
    from namm_mm.testing.tiny import tiny_llama

    tiny_llama().save_pretrained(folder)


def test_another_class_of_model_is_a_usage_error_with_the_known_ones(tmp_path: Path) -> None:
    save_llama(tmp_path)
    with pytest.raises(UsageError, match=r"got 'llama'.*Known: llava_next_video, llava_onevision"):
        LlavaVideoAdapter(model=str(tmp_path)).load()


@pytest.mark.parametrize(
    "file", ["preprocessor_config.json", "model-00001-of-00002.safetensors", "tokenizer.json"]
)
def test_a_checkpoint_with_a_file_missing_or_damaged_says_which(tmp_path: Path, file: str) -> None:
    video_checkpoints.save_checkpoint(tmp_path, "llava_next_video")
    (tmp_path / file).write_text("{") if "model" in file else (tmp_path / file).unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(RunError, match=r"preprocessor|weights|tokenizer"):
        LlavaVideoAdapter(model=str(tmp_path), device="cpu").load()


def test_a_sample_without_a_video_says_so(adapter: LlavaVideoAdapter) -> None:
    with pytest.raises(UsageError, match="has no video"):
        adapter.prepare(Sample("s", "f", question="What?"))


def test_processor_settings_are_read_from_the_checkpoint(tmp_path: Path, sample: Sample) -> None:
    video_checkpoints.save_checkpoint(tmp_path, "video_llava")
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"patch_size": 16, "num_additional_image_tokens": 0}))
    found = LlavaVideoAdapter(model=str(tmp_path), frames=2, device="cpu")
    found.load()
    token_types = found.prepare(sample).token_types
    assert sum(token_type.kind == "frame" for token_type in token_types) == 2 * (32 // 16) ** 2
