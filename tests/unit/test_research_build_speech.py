"""A speech model is composed of frozen parts, trained on spoken words, and read by the adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import text_checkpoints
import torch
import transformers

from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.errors import UsageError
from namm_mm.models import fetched, packaged
from namm_mm.models.cards import verify
from namm_mm.models.composed_speech import make_model, make_processor, projector_of
from namm_mm.sound import read_sound
from namm_mm.tasks.speech_qa import SpeechQaTask, speaking
from research.builders.speech.hearing import hear
from research.builders.speech.smollm2 import BuildSmolLM2Speech
from research.builders.speech.talks import Talks, listen, shortened
from research.builders.speech.training import Reader, start

pytestmark = pytest.mark.skipif(bool(speaking.missing_program()), reason="needs espeak-ng")


@pytest.fixture(autouse=True)
def _small_parts(parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a composed model are the tiny ones, and a build is saved at every step."""
    monkeypatch.setattr("research.builders.speech.smollm2.SAVED", 1)
    monkeypatch.setattr(packaged, "convert", lambda model: parts[0])
    monkeypatch.setattr(fetched, "located", lambda model: parts[1])
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "models"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny language model, and a tiny Whisper."""
    folder = tmp_path_factory.mktemp("parts")
    language = Path(text_checkpoints.save(folder / "language", max_position_embeddings=2048))
    torch.manual_seed(0)
    config: Any = transformers.WhisperConfig
    whole: Any = transformers.WhisperForConditionalGeneration
    extractor: Any = transformers.WhisperFeatureExtractor
    sizes: dict[str, int] = {
        f"{side}_{what}": number
        for side in ("encoder", "decoder")
        for what, number in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    whisper = folder / "whisper"
    whole(config(d_model=16, num_mel_bins=8, init_std=0.3, **sizes)).save_pretrained(whisper)
    extractor(feature_size=8).save_pretrained(whisper)
    return language, whisper


@pytest.fixture(scope="module")
def composed(parts: tuple[Path, Path]) -> tuple[Any, Any]:
    processor = make_processor(*parts)
    return make_model(*parts, processor), processor


def build(parts: tuple[Path, Path], out: Path, **options: Any) -> BuildSmolLM2Speech:
    language, whisper = parts
    small = {"families": "word", "talks": 3, "validation": 2, "steps": 2, "batch": 2}
    given = {"work": out.parent / "work", "validate_every": 1, **small, **options}
    return BuildSmolLM2Speech(out=out, language=language, whisper=whisper, **given)


def test_the_parts_are_as_they_were(composed: tuple[Any, Any], parts: tuple[Path, Path]) -> None:
    model, _ = composed
    models: Any = transformers.AutoModelForCausalLM
    language = models.from_pretrained(parts[0], dtype=torch.bfloat16)
    for name, weight in language.model.state_dict().items():
        mine = model.model.language_model.state_dict()[name]
        torch.testing.assert_close(mine[: len(weight)], weight, rtol=0, atol=0, msg=name)


def test_the_projector_is_given_what_the_class_gives_it(composed: tuple[Any, Any]) -> None:
    model, processor = composed
    (talk,) = listen(model, processor, Talks("train", {"word": 1}, "known"))
    sample = SpeechQaTask(families="word", words="known").generate("word", "train", 0, 0)
    sound = read_sound(sample.sounds[0])
    made = processor(
        text=["<|AUDIO|>"], audio=[sound.samples], sampling_rate=16_000, return_tensors="pt"
    )
    given: list[torch.Tensor] = []
    hook = projector_of(model).register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    with torch.no_grad():
        model.float()(**made)
    hook.remove()
    model.to(torch.bfloat16)
    wanted = given[0][0, : len(talk.features)]
    assert torch.allclose(wanted, talk.features.float(), atol=0.03)
    again = hear(model.model.audio_tower, processor.feature_extractor, sound.samples)
    assert len(again) == len(talk.features)


def test_the_start_says_the_words_where_they_are_said(composed: tuple[Any, Any]) -> None:
    model, processor = composed
    reader = Reader(model, processor)
    reader.projector.float()
    talks = listen(model, processor, Talks("train", {"word": 2, "needle": 2}, "known"))
    start(reader, talks)
    wanted = torch.cat([reader.embedded(talk.spoken()) for talk in talks])
    with torch.no_grad():
        said = torch.cat([reader.projector(talk.features.float()) for talk in talks])
    unexplained = (said - wanted).pow(2).mean() / (wanted - wanted.mean(0)).pow(2).mean()
    assert unexplained < 0.9  # a random encoder of 16 numbers knows little
    reader.projector.to(torch.bfloat16)
    needle = talks[2]
    spoken = needle.spoken()
    assert {",", "password", needle.plan.answer} == set(spoken)
    assert spoken.index("password") < spoken.index(needle.plan.answer)
    short = shortened(needle)
    assert len(short.features) < len(needle.features) / 2
    assert {",", "password", needle.plan.answer} == set(short.spoken())
    times = [words.count(needle.plan.answer) for words in (spoken, short.spoken())]
    assert abs(times[0] - times[1]) <= 1


def test_talks_are_spoken_once(composed: tuple[Any, Any], tmp_path: Path) -> None:
    wanted = Talks("validation", {"word": 2}, "known")
    first = listen(*composed, wanted, tmp_path / "talks.pt")
    again = listen(None, None, wanted, tmp_path / "talks.pt")
    for one, other in zip(first, again, strict=True):
        assert (one.plan, one.times) == (other.plan, other.times)
        assert torch.allclose(one.features, other.features)


def test_a_build_is_a_model_that_the_adapter_reads(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    said: list[str] = []
    out = build(parts, tmp_path / "model").build(said.append)
    card = verify(out)
    assert card["answer_by"] == "words"
    assert card["data"]["not_trained"] == ["order", "needle", "absent", "twice"]
    learned = card["validation_accuracy"]["word"] >= 0.8
    assert card["data"]["families" if learned else "not_learned"] == ["word"]
    assert (out / "trained.safetensors").stat().st_size < 2 * 2**20
    assert len(card["validation_curve"]) == 3  # before the first step, and after each
    assert any(line.startswith("validation: word") for line in said)
    adapter = SpeechAdapter(model=str(out), dtype="float32")
    adapter.load()
    assert adapter.answering == "words"
    task = SpeechQaTask(families="word", words="known", cache=str(tmp_path / "cache"))
    sample = next(  # the tiny model's tokens are letters
        one
        for one in task.samples("validation", 8, 0)
        if len({option[0] for option in one.options}) == len(one.options)
    )
    inputs = adapter.prepare(sample)
    text = adapter.tokenizer.decode(inputs.tensors["input_ids"][0])
    assert text.endswith("Which of the words was said?<|im_end|>\n<|im_start|>assistant\nAnswer:")
    answer = adapter.answer(inputs, None)
    assert answer.option is not None


def test_a_build_that_was_stopped_goes_on_as_if_it_had_not_been(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = build(parts, tmp_path / "whole", work=tmp_path / "a", steps=4)
    whole.build(lambda _: None)
    stopped = build(parts, tmp_path / "stopped", work=tmp_path / "b", steps=4)

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("validation") and stopped.state.is_file():
            raise Stop

    with pytest.raises(Stop):
        stopped.build(stop)
    said: list[str] = []
    stopped.build(said.append)
    assert any("resuming after step" in line for line in said)
    curves = [json.loads((tmp_path / name / "card.json").read_text())["validation_curve"]
              for name in ("whole", "stopped")]  # fmt: skip
    words = [[point["word"] for point in curve] for curve in curves]
    assert words[0][-1] == words[1][-1]
    first, second = (
        torch.load(folder / "training.pt", weights_only=True)["projector"]["weight"]
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert torch.allclose(first, second, atol=1e-5)


def test_an_unknown_family_is_told(parts: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'needle'"):
        build(parts, tmp_path / "model", families="neddle").build(print)
