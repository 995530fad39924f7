"""Score video models during and after training, and say in a card what they learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.adapters.video.frames import read_preprocessor
from namm_mm.adapters.video.kinds import KINDS
from namm_mm.adapters.video.loading import LoadedVideoModel
from namm_mm.results.statistics import wilson
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.questions import FAMILIES

if TYPE_CHECKING:
    from namm_mm.records import Inputs, Sample

VALIDATION = 20
"""Validation videos of each family by which weights are chosen."""

COVERED = 0.8
"""Test accuracy at which a family is called covered."""

Model = TypeVar("Model")


class Judge(Generic[Model]):
    """Accuracy by family with the full cache, through the adapter, from the files.

    Files are read once; models may change in between.

    Parameters
    ----------
    adapter_of
        Returns the adapter of a model.
    asked
        The questions.
    """

    def __init__(
        self, adapter_of: Callable[[Model], LlavaVideoAdapter], asked: Sequence[Sample]
    ) -> None:
        self._adapter_of = adapter_of
        self._asked = asked
        self._inputs: list[Inputs] | None = None

    def accuracy(self, model: Model) -> dict[str, float]:
        """Return the accuracy of `model` by family."""
        adapter = self._adapter_of(model)
        dtype = adapter.loaded.model.dtype
        if self._inputs is None:
            self._inputs = [adapter.prepare(sample) for sample in self._asked]
        right: dict[str, list[bool]] = {}
        for inputs in self._inputs:
            tensors = dict(inputs.tensors)
            tensors["pixel_values_videos"] = tensors["pixel_values_videos"].to(dtype)
            answer = adapter.answer(replace(inputs, tensors=tensors), None)
            sample = inputs.sample
            right.setdefault(sample.family, []).append(answer.text == sample.answer)
        return {family: sum(found) / len(found) for family, found in right.items()}


def adapter_of(
    name: str, model: Any, tokenizer: Any, preprocessor: dict[str, Any], **options: Any
) -> LlavaVideoAdapter:
    """Return the adapter of a LlavaNextVideo model that is in memory."""
    adapter = LlavaVideoAdapter(model=name, **options)
    adapter.use(
        LoadedVideoModel(
            name="trained",
            model=model,
            tokenizer=tokenizer,
            kind=KINDS["llava_next_video"],
            preprocess=read_preprocessor(preprocessor, "llava_next_video"),
            processor={},
            placeholder_token=model.config.video_token_id,
            placeholder="<video>",
            chat_template=tokenizer.chat_template,
        )
    )
    return adapter


def samples(split: str, each: int, families: Sequence[str] = tuple(FAMILIES)) -> Sequence[Sample]:
    """Return the videos on which weights are compared and scored: `each` of every family."""
    return VideoQaTask(families=tuple(families)).samples(split, each * len(families), seed=1000)


def covered(scores: Mapping[str, float], families: Sequence[str]) -> dict[str, list[str]]:
    """Return the families that are covered by their test accuracy, and the others, for a card."""
    found = [family for family, value in scores.items() if value >= COVERED]
    return {
        "families": found,
        "not_learned": [family for family in families if family not in found],
    }


def score_facts(scores: Mapping[str, Mapping[str, float]], each: int) -> dict[str, Any]:
    """Return the facts of a card: accuracy by split and family, with intervals on test videos."""
    return {
        "accuracy_full_cache": {
            split: {family: round(value, 3) for family, value in found.items()}
            for split, found in scores.items()
        },
        "interval_test": {
            family: [round(end, 3) for end in wilson(value, each)]
            for family, value in scores["test"].items()
        },
        "videos_per_family": each,
        "chance": 0.25,
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that weights depend on."""
    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "av", "numpy")}
