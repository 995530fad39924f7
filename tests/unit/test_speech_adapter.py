"""The speech adapter: Qwen2-Audio in its published layout, with the processor of transformers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import speech_checkpoints
import torch

from namm_mm import attach, policy
from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.errors import RunError, UsageError
from namm_mm.policies import Budget
from namm_mm.records import Sample, TokenType

pytestmark = pytest.mark.numeric

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """A tone in noise, (sample,) in [-1, 1]."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * draw.uniform(200, 900) * time * (1 + 0.2 * time))
    return 0.3 * tone + 0.1 * draw.standard_normal(len(time))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("sounds")
    files = []
    for number, seconds in enumerate((1.9, 0.7, 4.5)):
        files.append(folder / f"{number}.wav")
        soundfile.write(files[-1], noise(seconds, number), RATE)
    return tuple(files)


@pytest.fixture(scope="module")
def sample(sounds: tuple[Path, ...]) -> Sample:
    options = ("red", "blue", "green", "pink")
    return Sample(
        "s", "f", question="What was said?", options=options, answer="red", sounds=sounds[:1]
    )


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> SpeechAdapter:
    folder = tmp_path_factory.mktemp("qwen2_audio")
    speech_checkpoints.save(folder)
    found = SpeechAdapter(model=str(folder), dtype="float32", device="cpu")
    found.load()
    return found


def like(adapter: SpeechAdapter, **changed: Any) -> SpeechAdapter:
    """The same model with other options."""
    found = dataclasses.replace(adapter, **changed)
    found.use(adapter.loaded)
    return found


def test_the_published_weights_are_those_of_the_model(tmp_path: Path) -> None:
    saved = speech_checkpoints.save(tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in index["weight_map"]
    assert "audio_tower.conv1.weight" in index["weight_map"]
    found = SpeechAdapter(model=str(tmp_path), dtype="float32", device="cpu")
    found.load()
    loaded = found.loaded.model.state_dict()
    for name, weight in saved.state_dict().items():
        assert torch.allclose(loaded[name], weight), name


def test_every_token_has_its_second(adapter: SpeechAdapter, sample: Sample) -> None:
    inputs = adapter.prepare(sample)
    ids = inputs.tensors["input_ids"][0]
    assert len(inputs.token_types) == len(ids)
    places = (ids == adapter.loaded.placeholder_token).nonzero()[:, 0].tolist()
    seconds = [inputs.token_types[at] for at in places]
    assert len(places) == 47  # 1.9 seconds of 25 tokens each
    assert seconds == [TokenType("sound", 0)] * 25 + [TokenType("sound", 1)] * 22
    others = set(range(len(ids))) - set(places)
    assert {inputs.token_types[at] for at in others} == {TokenType("text")}
    assert inputs.details["sound_seconds"] == [1.9]
    assert inputs.details["sounds"] == ["0.wav"]


def test_several_sounds_keep_apart(
    adapter: SpeechAdapter, sample: Sample, sounds: tuple[Path, ...]
) -> None:
    inputs = adapter.prepare(dataclasses.replace(sample, sounds=sounds[:2]))
    kinds = [one.kind for one in inputs.token_types]
    assert kinds.count("sound 1") == 47
    assert kinds.count("sound 2") == inputs.details["sound_tokens"][1] == 17
    assert kinds.index("text", kinds.index("sound 1")) < kinds.index("sound 2")
    with torch.no_grad():
        logits = adapter.loaded.model(**inputs.tensors).logits[0, -1].log_softmax(-1)
    answer = adapter.answer(inputs, None)
    letters = adapter.loaded.processor.tokenizer.convert_tokens_to_ids(["A", "B", "C", "D"])
    assert answer.log_probabilities == pytest.approx(logits[letters].tolist(), abs=1e-4)


def test_a_long_sound_is_refused_or_heard_in_equal_windows(
    adapter: SpeechAdapter, sample: Sample, sounds: tuple[Path, ...]
) -> None:
    long = dataclasses.replace(sample, sounds=sounds[2:])
    with pytest.raises(RunError, match=r"4.5 seconds.*at most 2.*long_sounds=windows"):
        adapter.prepare(long)
    windows = like(adapter, long_sounds="windows")
    inputs = windows.prepare(long)
    seconds = [one.index for one in inputs.token_types if one.kind == "sound"]
    assert inputs.tensors["input_features"].shape[0] == 3  # of 1.5 seconds
    assert sorted(seconds) == seconds
    assert set(seconds) == {0, 1, 2, 3, 4}
    assert inputs.details["sound_tokens"] == [len(seconds)]
    with torch.no_grad():
        adapter.loaded.model(**inputs.tensors)  # as many features as tokens, or it raises


@pytest.mark.parametrize("count", [1, 2])
def test_generating_says_what_generate_says(
    adapter: SpeechAdapter, sample: Sample, sounds: tuple[Path, ...], count: int
) -> None:
    writer = like(adapter, answer_by="generate", max_new_tokens=9)
    inputs = writer.prepare(dataclasses.replace(sample, sounds=sounds[:count]))
    output = adapter.loaded.model.generate(**inputs.tensors, max_new_tokens=9, do_sample=False)
    new = output[0, len(inputs.token_types) :]
    text = adapter.loaded.processor.tokenizer.decode(new, skip_special_tokens=True)
    with attach(writer.backbone, policy("full"), interval=8) as memory:
        assert writer.answer(inputs, memory).text == text.strip()
    assert writer.answer(inputs, None).text == text.strip()


def test_words_are_compared_where_letters_are_not_listed(
    adapter: SpeechAdapter, sample: Sample
) -> None:
    speaker = like(adapter, answer_by="words")
    inputs = speaker.prepare(sample)
    text = speaker.loaded.processor.tokenizer.decode(inputs.tensors["input_ids"][0])
    assert "A. red" not in text
    answer = speaker.answer(inputs, None)
    assert len(answer.log_probabilities) == 4
    assert answer.text == sample.options[answer.option or 0]


def test_the_memory_forgets_seconds_and_the_answer_notices(
    adapter: SpeechAdapter, sample: Sample
) -> None:
    inputs = adapter.prepare(sample)
    with attach(adapter.backbone, policy("full"), interval=8) as memory:
        full = adapter.answer(inputs, memory)
    short = policy("recency", budget=Budget(tokens=8))
    with attach(adapter.backbone, short, interval=8) as memory:
        less = adapter.answer(inputs, memory)
        assert memory.usage().tokens_final < 16
    assert less.log_probabilities != pytest.approx(full.log_probabilities, abs=1e-2)
    short = policy("recency", budget=Budget(tokens=4))
    with attach(adapter.backbone, short, interval=8, protocol="prune_after_prefill") as memory:
        adapter.answer(inputs, memory)
        after = (
            inputs.tensors["input_ids"][0].tolist()[::-1].index(adapter.loaded.placeholder_token)
        )
        assert memory.usage().tokens_final == 4 + after


def test_a_template_without_a_place_for_sounds_is_replaced(
    tmp_path: Path, sample: Sample, sounds: tuple[Path, ...]
) -> None:
    speech_checkpoints.save(tmp_path, template=False)
    found = SpeechAdapter(model=str(tmp_path), dtype="float32", device="cpu")
    found.load()
    inputs = found.prepare(dataclasses.replace(sample, sounds=sounds[:2]))
    text = found.loaded.processor.tokenizer.decode(inputs.tensors["input_ids"][0])
    assert text.count("<|audio_bos|>") == 2
    assert text.index("<|audio_eos|>") < text.index("What was")


def test_wrong_samples_and_options_are_refused(
    adapter: SpeechAdapter, sample: Sample, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has no sound"):
        adapter.prepare(dataclasses.replace(sample, sounds=()))
    with pytest.raises(UsageError, match="contains the placeholder"):
        adapter.prepare(dataclasses.replace(sample, question="What is <|AUDIO|>?"))
    soundfile.write(tmp_path / "click.wav", noise(0.05), RATE)
    with pytest.raises(UsageError, match=r"too short: got '0.050 seconds'"):
        adapter.prepare(dataclasses.replace(sample, sounds=(tmp_path / "click.wav",)))
    with pytest.raises(UsageError, match="unknown long_sounds"):
        SpeechAdapter(long_sounds="cut")
    with pytest.raises(UsageError, match="unknown answer_by"):
        SpeechAdapter(answer_by="guess")
    with pytest.raises(UsageError, match="call `load"):
        _ = SpeechAdapter().loaded
    narrow = like(adapter)
    narrow.use(dataclasses.replace(adapter.loaded, context_length=20))
    with pytest.raises(UsageError, match="Ask about a shorter sound, or extend the context"):
        narrow.prepare(sample)


def test_a_model_of_another_class_is_told_apart(tiny: Path) -> None:
    with pytest.raises(UsageError, match=r"does not serve.*got 'llava_next_video'.*qwen2_audio"):
        SpeechAdapter(model=str(tiny / "video")).load()


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    speech_checkpoints.save(tmp_path)
    for file in tmp_path.glob("pre*config.json"), tmp_path.glob("processor_config.json"):
        for one in file:
            one.unlink()
    with pytest.raises(RunError, match="cannot load the processor"):
        SpeechAdapter(model=str(tmp_path)).load()


def test_the_encoder_may_compute_once_for_a_sample(
    adapter: SpeechAdapter, sample: Sample, sounds: tuple[Path, ...]
) -> None:
    other = dataclasses.replace(sample, id="t", sounds=sounds[1:2])
    wanted = [adapter.answer(adapter.prepare(one), None) for one in (sample, other)]
    once = like(adapter, encode_once=True)
    assert once.facts["encode_once"] is True
    assert "encode_once" not in adapter.facts
    computed: list[int] = []
    first = adapter.loaded.model.model.audio_tower.conv1
    hook = first.register_forward_hook(lambda *_: computed.append(1))
    found = [once.answer(once.prepare(one), None) for one in (sample, sample, other, sample)]
    hook.remove()
    del adapter.loaded.model.model.audio_tower.forward
    assert len(computed) == 3
    for answer, expected in zip(found, (wanted[0], wanted[0], *wanted[1:], wanted[0]), strict=True):
        assert answer.log_probabilities == pytest.approx(expected.log_probabilities, abs=1e-5)
