"""Accuracy with the full cache when pictures are plain grey, or talks are silent.

    python research/benchmarks/blank_media.py --task speech_qa --families word needle --words known
    python research/benchmarks/blank_media.py --task image_qa

Every file of a test question is replaced by a blank one of the same size or length, so that the
question alone is left. Without families those are asked that the model has learned. Chance is one
quarter. Writes OUT.json, by default research/results/blank_images.json or blank_speech.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from namm_mm.adapters.common.multimodal import MultimodalAdapter
from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.adapters.video.album import AlbumAdapter
from namm_mm.image import read_picture
from namm_mm.records import Sample
from namm_mm.sound import read_sound, write_wav
from namm_mm.sound.reading import RATE
from namm_mm.tasks.image_qa import ImageQaTask
from namm_mm.tasks.question_task import QuestionTask
from namm_mm.tasks.speech_qa import SpeechQaTask
from research.benchmarks.common import RESULTS, Facts, interval, markdown, options, parse, report

TASKS: dict[str, tuple[type[MultimodalAdapter[Any]], type[QuestionTask], str, str]] = {
    "image_qa": (AlbumAdapter, ImageQaTask, "smollm2_video", "blank_images"),
    "speech_qa": (SpeechAdapter, SpeechQaTask, "smollm2_speech", "blank_speech"),
}
"""Of each task its adapter, its class, its model, and the name of the results."""


def main() -> None:
    """Measure, print, and write the numbers."""
    parser = options(
        __doc__,
        task="speech_qa",
        families=(),
        words="known",
        samples=60,
        split="test",
        seed=0,
        out=None,
    )
    args = parse(parser)
    report(measure(args), args.out or RESULTS / TASKS[args.task][3], in_words)


def measure(args: argparse.Namespace) -> Facts:
    """Answer every question as it is blanked; return the accuracy by family."""
    adapter_class, task_class, model, _ = TASKS[args.task]
    said = {"words": args.words} if task_class is SpeechQaTask else {}
    task = task_class(families=args.families or None, **said)
    adapter = adapter_class(model=model, device="cpu")
    adapter.load()
    right: dict[str, list[float]] = defaultdict(list)
    for sample in task.samples(args.split, args.samples, args.seed):
        with tempfile.TemporaryDirectory() as folder:
            inputs = adapter.prepare(blank(sample, Path(folder)))
        answer = adapter.answer(inputs, None)
        right[sample.family].append(task.score(sample, answer).value)
    return {
        "task": args.task,
        "model": model,
        "split": args.split,
        "seed": args.seed,
        "accuracy": {
            **{family: interval(values, 3) for family, values in right.items()},
            "all": interval([value for values in right.values() for value in values], 3),
        },
    }


def blank(sample: Sample, folder: Path) -> Sample:
    """Return a sample whose pictures are grey, and whose sounds are silent."""
    images, sounds = [], []
    for number, path in enumerate(sample.images):
        images.append(folder / f"{number}.png")
        Image.new("RGB", read_picture(path).size, "gray").save(images[-1])
    for number, path in enumerate(sample.sounds):
        sounds.append(folder / f"{number}.wav")
        silence = np.zeros(len(read_sound(path).samples), np.float32)
        write_wav(sounds[-1], silence, RATE)
    return replace(sample, images=tuple(images), sounds=tuple(sounds))


def in_words(found: Facts) -> str:
    """Return the accuracies as a table."""
    rows = [
        [family, str(score["n"]), f"{score['mean']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"]
        for family, score in found["accuracy"].items()
    ]
    return markdown(["family", "n", f"accuracy of {found['model']}, blank"], rows)


if __name__ == "__main__":
    main()
