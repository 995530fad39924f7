"""The image adapter: every family, laid out in tokens as its published processor does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import image_checkpoints
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from namm_mm import attach, policy
from namm_mm.adapters.image.adapter import ImageAdapter
from namm_mm.adapters.image.kinds import KINDS
from namm_mm.errors import RunError, UsageError
from namm_mm.policies import Budget
from namm_mm.records import Inputs, Sample, TokenType

pytestmark = pytest.mark.numeric

SIZES = ((50, 90), (70, 40))
OPTIONS = ("red", "blue", "green", "pink")


def save_noise(path: Path, height: int, width: int, seed: int) -> Path:
    blocks = np.random.default_rng(seed).integers(0, 255, (height // 10, width // 10, 3), np.uint8)
    Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("pictures")
    return tuple(
        save_noise(folder / f"{number}.png", *size, seed=number)
        for number, size in enumerate(SIZES)
    )


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adapter(kind: str, tmp_path_factory: pytest.TempPathFactory) -> ImageAdapter:
    folder = tmp_path_factory.mktemp(kind)
    image_checkpoints.save_checkpoint(folder, kind)
    found = ImageAdapter(model=str(folder), dtype="float32", device="cpu")
    found.load()
    return found


def asking(pictures: tuple[Path, ...], **more: Any) -> Sample:
    given: dict[str, Any] = {"question": "What color was it?", "options": OPTIONS, **more}
    return Sample("s", "f", answer="red", images=pictures, **given)


def shown(inputs: Inputs) -> list[TokenType]:
    return [one for one in inputs.token_types if one.kind != "text"]


def test_placeholders_are_as_many_as_the_published_processor_counts(
    adapter: ImageAdapter, kind: str, pictures: tuple[Path, ...]
) -> None:
    processor = adapter.loaded.processor
    for picture, size in zip(pictures, SIZES, strict=True):
        inputs = adapter.prepare(asking((picture,)))
        ids = inputs.tensors["input_ids"][0].tolist()
        if kind in ("idefics3", "smolvlm"):  # their own count has the names of tiles in it, or none
            named = adapter.tokenizer.convert_tokens_to_ids(list(image_checkpoints.TILES))
            tiles = sum(ids.count(one) for one in named)
            assert tiles > 1
            assert len(shown(inputs)) == processor.image_seq_len * (1 + tiles)
            continue
        counted = processor._get_num_multimodal_tokens(image_sizes=[size])["num_image_tokens"][0]
        edges = 2 if kind == "internvl" else 0  # it counts the start and the end, too
        assert ids.count(adapter.loaded.placeholder_token) == counted - edges


@pytest.mark.parametrize("plain", ["llava", "llava_next", "idefics3"])
def test_tokens_and_pixels_equal_those_of_the_processor_that_can_be_built_here(
    plain: str, tmp_path: Path, pictures: tuple[Path, ...]
) -> None:
    image_checkpoints.save_checkpoint(tmp_path, plain)
    published: Any = transformers.AutoProcessor
    theirs = published.from_pretrained(tmp_path, backend="pil")
    ours = ImageAdapter(model=str(tmp_path), dtype="float32", device="cpu")
    ours.load()
    inputs = ours.prepare(asking(pictures))
    opened = [[Image.open(path).convert("RGB") for path in pictures]]
    wanted = theirs(images=opened, text=[ours.prompt(asking(pictures))], return_tensors="pt")
    assert inputs.tensors["input_ids"].tolist() == wanted["input_ids"].tolist()
    assert torch.allclose(inputs.tensors["pixel_values"], wanted["pixel_values"])


def test_every_placeholder_has_the_number_the_row_and_the_column_of_its_patch(
    adapter: ImageAdapter, pictures: tuple[Path, ...]
) -> None:
    inputs = adapter.prepare(asking(pictures))
    ids = inputs.tensors["input_ids"][0]
    assert len(inputs.token_types) == len(ids)
    types = shown(inputs)
    assert [one.index for one in types] == sorted(one.index for one in types)
    for picture in (0, 1):
        for what in {one.kind for one in types}:
            mine = [one for one in types if one.kind == what and one.index == picture]
            rows = {one.row for one in mine}
            columns = {one.column for one in mine}
            assert rows == set(range(len(rows)))
            assert columns == set(range(len(columns)))
            assert len(mine) == len(rows) * len(columns)
    places = [i for i, one in enumerate(ids) if one == adapter.loaded.placeholder_token]
    assert all(inputs.token_types[at].kind == "text" for at in set(range(len(ids))) - set(places))


def embedded(adapter: ImageAdapter, inputs: Inputs) -> torch.Tensor:
    """(token, hidden): what the language model is given."""
    seen: list[torch.Tensor] = []
    hook = adapter.backbone.register_forward_pre_hook(
        lambda _model, _args, kwargs: seen.append(kwargs["inputs_embeds"][0]), with_kwargs=True
    )
    with hook, torch.no_grad():
        adapter.loaded.model(**inputs.tensors)
    return seen[0]


@pytest.mark.parametrize("corner", ["top right", "bottom left"])
def test_a_changed_corner_changes_most_the_token_that_is_named_so(
    adapter: ImageAdapter, corner: str, tmp_path: Path
) -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    changed = grey.copy()
    changed[
        (slice(0, 12), slice(52, 64)) if corner == "top right" else (slice(52, 64), slice(0, 12))
    ] = 255
    found = []
    for number, pixels in enumerate((grey, changed)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        inputs = adapter.prepare(asking((tmp_path / f"{number}.png",)))
        found.append(embedded(adapter, inputs))
    moved = (found[1] - found[0]).norm(dim=-1)
    for what in {one.kind for one in shown(inputs)}:
        mine = [i for i, one in enumerate(inputs.token_types) if one.kind == what]
        most = inputs.token_types[max(mine, key=moved.tolist().__getitem__)]
        last = max(inputs.token_types[i].row or 0 for i in mine)
        assert (most.row, most.column) == ((0, last) if corner == "top right" else (last, 0))


@pytest.mark.parametrize("count", [1, 2])
def test_the_answer_is_that_of_one_plain_forward(
    adapter: ImageAdapter, pictures: tuple[Path, ...], count: int
) -> None:
    inputs = adapter.prepare(asking(pictures[:count]))
    with torch.no_grad():
        logits = adapter.loaded.model(**inputs.tensors).logits[0, -1]
    letters = adapter.tokenizer.convert_tokens_to_ids(["A", "B", "C", "D"])
    wanted = logits.log_softmax(-1)[letters]
    answer = adapter.answer(inputs, None)
    assert answer.log_probabilities == pytest.approx(wanted.tolist(), abs=1e-4)
    assert answer.option == int(wanted.argmax())
    with attach(adapter.backbone, policy("full"), interval=8) as memory:
        full = adapter.answer(inputs, memory)
    assert full.log_probabilities == pytest.approx(wanted.tolist(), abs=1e-3)
    short = policy("recency", budget=Budget(tokens=8))
    with attach(adapter.backbone, short, interval=8) as memory:
        less = adapter.answer(inputs, memory)
        assert memory.usage().tokens_final < 16
    assert less.log_probabilities != pytest.approx(full.log_probabilities, abs=1e-2)


def test_generating_says_what_generate_says_under_a_memory_too(
    adapter: ImageAdapter, pictures: tuple[Path, ...]
) -> None:
    writer = ImageAdapter(model="the same", answer_by="generate", max_new_tokens=6)
    writer.use(adapter.loaded)
    inputs = adapter.prepare(asking(pictures))
    output = adapter.loaded.model.generate(**inputs.tensors, max_new_tokens=6, do_sample=False)
    text = adapter.tokenizer.decode(output[0, len(inputs.token_types) :], skip_special_tokens=True)
    assert writer.answer(inputs, None).text == text.strip()
    with attach(writer.backbone, policy("full"), interval=8) as memory:
        assert writer.answer(inputs, memory).text == text.strip()


def test_positions_of_a_shortened_cache_are_those_of_the_whole_prompt(
    adapter: ImageAdapter, pictures: tuple[Path, ...]
) -> None:
    """Where the memory drops tokens, later ones keep the rotary positions that they would have."""
    inputs = adapter.prepare(asking(pictures))
    seen: list[torch.Tensor] = []
    rotary: Any = adapter.backbone.rotary_emb
    hook = rotary.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.append([*args, *kwargs.values()][1]), with_kwargs=True
    )
    with hook:
        with torch.no_grad():
            adapter.loaded.model(**inputs.tensors)
        whole = seen.pop()
        short = policy("recency", budget=Budget(tokens=8))
        with attach(adapter.backbone, short, interval=8) as memory:
            adapter.answer(inputs, memory)
    assert torch.cat(seen, dim=-1).tolist() == whole.tolist()


def test_pictures_stand_where_the_words_say(
    adapter: ImageAdapter, pictures: tuple[Path, ...]
) -> None:
    sample = asking(pictures, question="Which object <image> appeared last <image> ?")
    kinds = [one.kind != "text" for one in adapter.prepare(sample).token_types]
    runs = [at for at in range(1, len(kinds)) if kinds[at] and not kinds[at - 1]]
    words = adapter.tokenizer.decode(adapter.prepare(sample).tensors["input_ids"][0])
    assert len(runs) >= 2
    assert words.index("Which object") < words.index("appeared last") < words.index("A . red")


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "count", "told"),
    [
        ({}, 0, "has no picture"),
        ({"question": "What is <image> ?"}, 2, "1 times <image>, 2 pictures"),
        ({"options": tuple(map(str, range(27)))}, 1, "too many options"),
    ],
)
def test_wrong_samples_are_told(
    adapter: ImageAdapter, pictures: tuple[Path, ...], more: dict[str, Any], count: int, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        adapter.prepare(asking(pictures[:count], **more))


def test_a_picture_of_one_pixel_is_answered_or_refused(
    adapter: ImageAdapter, tmp_path: Path
) -> None:
    for number, size in enumerate(((1, 1), (3, 40), (1, 300))):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size, "red").save(path)
        if "does not take the pictures" not in refusal(adapter, path):
            inputs = adapter.prepare(asking((path,)))
            assert np.isfinite(adapter.answer(inputs, None).log_probabilities).all()


def refusal(adapter: ImageAdapter, path: Path) -> str:
    try:
        adapter.prepare(asking((path,)))
    except RunError as error:
        return str(error)
    return ""


def test_another_class_of_model_is_a_usage_error_with_the_known_ones(tmp_path: Path) -> None:
    from namm_mm.testing.tiny import tiny_llama

    tiny_llama().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"got 'llama'.*Known: idefics3, internvl, llava"):
        ImageAdapter(model=str(tmp_path)).load()


@pytest.mark.parametrize("file", ["preprocessor_config.json", "model.safetensors"])
def test_a_checkpoint_with_a_file_missing_or_damaged_says_which(tmp_path: Path, file: str) -> None:
    image_checkpoints.save_checkpoint(tmp_path, "qwen2_vl")
    (tmp_path / file).write_text("{") if "model" in file else (tmp_path / file).unlink()
    (tmp_path / "processor_config.json").unlink()
    with pytest.raises(RunError, match=r"no image preprocessor|weights"):
        ImageAdapter(model=str(tmp_path), device="cpu").load()


def test_a_package_that_a_processor_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.smolvlm import processing_smolvlm

    image_checkpoints.save_checkpoint(tmp_path, "smolvlm")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(RunError, match=r"num2words.*pip install 'namm-mm\[image\]'"):
        ImageAdapter(model=str(tmp_path), device="cpu").load()
