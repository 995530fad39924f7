"""Published video models: their formats, longer contexts, and how they are placed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import video_checkpoints

from namm_mm import attach, policy
from namm_mm.adapters.common.context import ContextExtension, context_length, extend, read_extension
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.adapters.video.kinds import KINDS, model_type_of
from namm_mm.adapters.video.prompt import Wording
from namm_mm.errors import RunError, UsageError
from namm_mm.policies import Budget
from namm_mm.records import FRAME_MARK, Sample, TokenType
from namm_mm.tasks.video_qa.encode import write_mp4

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "noise.mp4"
    blocks = np.random.default_rng(0).integers(0, 255, (12, 5, 6, 3), dtype=np.uint8)
    write_mp4(path, blocks.repeat(8, 1).repeat(8, 2), rate=4)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    saved: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind not in saved:
            saved[kind] = tmp_path_factory.mktemp(kind)
            video_checkpoints.save_checkpoint(saved[kind], kind)
        return saved[kind]

    return save


def loaded(path: Path, **options: Any) -> LlavaVideoAdapter:
    given = {"frames": 4, "dtype": "float32", "device": "cpu", **options}
    adapter = LlavaVideoAdapter(model=str(path), **given)
    adapter.load()
    return adapter


def asking(clip: Path, **more: Any) -> Sample:
    options = ("red", "blue", "green")
    given: dict[str, Any] = {"question": "What color was it?", "options": options, **more}
    return Sample("s", "f", answer="red", video=clip, **given)


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "newline", "tokens", "trailing"),
    [
        ("average", "grid", 13 * 14, 0),
        ("bilinear", "grid", 14 * 15, 0),
        ("bilinear", "one_token", 14 * 14, 1),
        ("max", "frame", 13 * 13 + 1, 0),
        ("average", "no_token", 13 * 13, 0),
    ],
)
def test_the_format_of_llavas_authors_has_as_many_tokens_as_features(
    mode: str, newline: str, tokens: int, trailing: int
) -> None:
    from namm_mm.adapters.video.llava_qwen import pool, read_config, with_newlines

    name = "google/siglip-so400m-patch14-384"
    plain = {"mm_vision_tower": name, "mm_newline_position": newline, "mm_spatial_pool_mode": mode}
    layout = KINDS["llava_qwen"].layout(384, 384, {}, read_config(plain, "it"))
    assert (layout.tokens_per_frame, layout.trailing) == (tokens, trailing)
    grid = pool(torch.arange(3 * 729.0).reshape(3, 729, 1), mode, 2).unsqueeze(0)
    line = with_newlines(grid, torch.tensor([-1.0]), newline)[0, :, 0]
    assert len(line) == layout.total(3)
    ends = {"grid": tokens // (13 + (mode == "bilinear")), "frame": tokens}.get(newline)
    if ends:
        assert (line.view(-1, ends)[:, -1] == -1).all()
    assert (line == -1).sum() == {"grid": 3 * grid.shape[2], "frame": 3, "one_token": 1}.get(
        newline, 0
    )


def test_a_model_of_llavas_authors_gives_what_it_was_saved_with(tmp_path: Path, clip: Path) -> None:
    saved = video_checkpoints.save_llava_qwen(tmp_path, seed=3, edge=32)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    adapter = loaded(tmp_path)
    assert adapter.loaded.kind is KINDS["llava_qwen"]
    inputs = adapter.prepare(asking(clip))
    with torch.no_grad():
        saved.config.video_token_id = adapter.loaded.placeholder_token
        wanted = saved(**inputs.tensors).logits
        assert torch.allclose(adapter.loaded.model(**inputs.tensors).logits, wanted, atol=1e-4)
    assert inputs.details["tokens_per_frame"] == 2 * 3  # 5 patches a side, pooled to 2, a newline
    other = loaded(tmp_path, pooling="bilinear").prepare(asking(clip))
    assert other.details["tokens_per_frame"] == 3 * 4
    assert model_type_of({"model_type": "llava", "architectures": ["Llava"]}) == "llava"


# -- longer contexts ------------------------------------------------------------------------------


def test_extensions_change_the_rotary_embedding_as_their_formulas_say() -> None:
    from transformers import GPT2Config, LlamaConfig

    def rope(words: str, **more: Any) -> tuple[Any, int | None]:
        config = LlamaConfig(hidden_size=512, num_attention_heads=4, **more)
        return config, extend(config, read_extension(words))

    base: dict[str, Any] = {"max_position_embeddings": 8192}
    base["rope_parameters"] = {"rope_type": "default", "rope_theta": 500000.0}
    config, length = rope("ntk:4", **base)
    assert length == 4 * 8192
    assert config.rope_parameters["rope_theta"] == pytest.approx(500000.0 * 7 ** (128 / 126))
    config, length = rope("linear:2.5", max_position_embeddings=4096)
    assert (config.rope_parameters["factor"], length) == (2.5, 10240)
    scaled: dict[str, Any] = {"max_position_embeddings": 4096}
    scaled["rope_parameters"] = {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}
    assert context_length(LlamaConfig(**scaled)) == 10240, "as LLaVA-NeXT-Video was trained"
    assert rope("linear:5", **scaled)[1] == 20480, "in place of the checkpoint's own"
    config, length = rope("ntk:2", **scaled)
    assert (length, config.rope_parameters["factor"]) == (20480, 2.5), "on top of it"
    assert config.rope_parameters["rope_theta"] == pytest.approx(10000 * 3 ** (128 / 126))
    with pytest.raises(UsageError, match=r"'gpt2'.*cannot be extended by ntk:2"):
        extend(GPT2Config(), ContextExtension("ntk", 2.0))
    for words in ("ntk", "linear:0.5", "linear:x", "linear:nan"):
        with pytest.raises(UsageError, match="wrong factor"):
            read_extension(words)
    with pytest.raises(UsageError, match="Did you mean 'linear'"):
        read_extension("liner")


def test_a_clip_past_the_context_is_refused_until_the_context_is_extended(
    tmp_path: Path, clip: Path
) -> None:
    video_checkpoints.save_checkpoint(tmp_path, "llava_next_video")
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"max_position_embeddings": 2048', '"max_position_embeddings": 32')
    )
    plain = loaded(tmp_path)
    with pytest.raises(UsageError, match=r"at most 32.*adapter\.rope=linear:\d"):
        plain.prepare(asking(clip))
    answers = [plain.facts["rope"]]
    for words in ("linear:4", "ntk:4"):
        longer = loaded(tmp_path, rope=words)
        assert longer.facts["rope"] == words
        assert longer.facts["context_length"] == 128
        answers.append(longer.answer(longer.prepare(asking(clip)), None).log_probabilities)
    assert answers[0] == "as published"
    assert answers[1] != pytest.approx(answers[2], abs=1e-4)


# -- placement ------------------------------------------------------------------------------------


def test_a_device_map_and_an_attention_kernel_change_no_answer(
    folder: Callable[[str], Path], clip: Path
) -> None:
    path = folder("llava_onevision")
    plain = loaded(path)
    wanted = plain.answer(plain.prepare(asking(clip)), None).log_probabilities
    for options in ({"device_map": "auto"}, {"device_map": {"": "cpu"}}, {"attention": "eager"}):
        other = loaded(path, **options)
        found = other.answer(other.prepare(asking(clip)), None).log_probabilities
        assert found == pytest.approx(wanted, abs=1e-4), options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device_map": "atuo"}, "Did you mean 'auto'"),
        ({"quantization": "4bits"}, "Did you mean '4bit'"),
        ({"attention": "flash"}, "unknown attention"),
        ({"sampling": "evn"}, "Did you mean 'even'"),
        ({"pooling": "mean"}, "unknown pooling"),
        ({"rope": "yarn:2"}, "unknown context extension"),
    ],
)
def test_wrong_placements_are_usage_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LlavaVideoAdapter(**options)


def test_what_is_not_here_is_said_with_the_command(folder: Callable[[str], Path]) -> None:
    path = str(folder("llava_onevision"))
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"quantization": "4bit"}, "pip install bitsandbytes|needs a CUDA device"),
        ({"attention": "flash_attention_2"}, "attention=sdpa"),
    )
    for options, words in cases:
        with pytest.raises(RunError, match=words):
            LlavaVideoAdapter(model=path, device="cpu", **options).load()
    with pytest.raises(UsageError, match="only models in LLaVA's own format"):
        LlavaVideoAdapter(model=path, device="cpu", pooling="average").load()


# -- every class under the memory, and prompts of benchmarks --------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_answers_under_every_memory(
    kind: str, folder: Callable[[str], Path], clip: Path
) -> None:
    adapter = loaded(folder(kind), answer_by="generate", max_new_tokens=4)
    inputs = adapter.prepare(asking(clip))
    wanted = adapter.answer(inputs, None).text
    everything = Budget(tokens=10_000)
    for name, given, interval in (
        ("h2o", {"budget": everything}, 16),
        ("namm", {}, 1024),  # longer than the prompt: no update, so nothing is evicted
    ):
        with attach(adapter.backbone, policy(name, **given), interval=interval) as memory:
            assert adapter.answer(inputs, memory).text == wanted
            assert memory.usage().tokens_final == memory.usage().seen
    for name, given in (("h2o", {"budget": Budget(tokens=12)}), ("namm", {})):
        with attach(adapter.backbone, policy(name, **given), interval=16) as memory:
            adapter.answer(inputs, memory)
            assert memory.usage().updates > 0
            assert memory.usage().tokens_final < memory.usage().seen


@pytest.mark.parametrize("kind", KINDS)
def test_text_between_frames_stands_between_their_tokens(
    kind: str, folder: Callable[[str], Path], clip: Path
) -> None:
    adapter = loaded(folder(kind))
    prompt = f"{FRAME_MARK}\nred\n{FRAME_MARK}\n{FRAME_MARK}\nWhat color was it ?"
    inputs = adapter.prepare(asking(clip, prompt=prompt))
    layout = adapter.loaded.layout(inputs.tensors["pixel_values_videos"][0])
    assert inputs.details["frames_seen"] == 3
    word = adapter.tokenizer.convert_tokens_to_ids("red")
    ids = inputs.tensors["input_ids"][0].tolist()
    at = ids.index(word)
    assert inputs.token_types[at - 1] == TokenType("frame", 0)
    assert inputs.token_types[at + 1] == TokenType("frame", 1)
    assert ids.count(adapter.loaded.placeholder_token) == layout.total(3)
    assert adapter.answer(inputs, None).option in range(3)
    with torch.no_grad():
        wanted = adapter.loaded.model(**inputs.tensors).logits[0, -1].log_softmax(-1)
    letters = adapter.tokenizer.convert_tokens_to_ids(["A", "B", "C"])
    found = adapter.answer(inputs, None).log_probabilities
    assert found == pytest.approx(wanted[letters].tolist(), abs=1e-4)


def test_frames_that_are_not_there_are_said(folder: Callable[[str], Path], clip: Path) -> None:
    path = folder("llava_next_video")
    adapter = loaded(path, frames=16, min_frames=14)
    with pytest.raises(RunError, match=r"noise\.mp4' is too short: got '12 frames'.*at least 14"):
        adapter.prepare(asking(clip))
    adapter = loaded(path, frames=16)
    assert adapter.prepare(asking(clip)).details["frames_seen"] == 12
    with pytest.raises(RunError, match="at least 16"):
        adapter.prepare(asking(clip, prompt=FRAME_MARK * 16))
    with pytest.raises(UsageError, match=r"adapter\.frames=17"):
        adapter.prepare(asking(clip, prompt=FRAME_MARK * 17))


def test_the_length_of_the_video_can_be_told(folder: Callable[[str], Path], clip: Path) -> None:
    adapter = loaded(folder("llava_qwen"), time_instruction=True, frames=3)
    adapter.tokenizer.add_tokens(["lasts"])
    text = Wording(adapter.loaded, time_instruction=True).prompt(
        asking(clip),
        SimpleNamespace(  # type: ignore[arg-type]
            seconds=3.0, timestamps=[0.0, 1.0, 2.0], frames=[1, 2, 3]
        ),
    )
    assert "lasts for 3.00 seconds, and 3 frames" in text
    assert "located at 0.00s,1.00s,2.00s.Please" in text
