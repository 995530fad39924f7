"""``namm-mm build smollm2-video``: train the small part that lets SmolLM2 see through DINOv2.

Both come from packages and stay as they are. Checkpoints are compared on validation videos, and the
best one is scored once on test videos, as the pocket model's are; every score is of the model as it
is put together for use (:mod:`namm_mm.models.composed`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.models import composed as composed_model
from namm_mm.models import packaged as packaged_model
from namm_mm.models.cache import cache_root
from namm_mm.models.cards import BUNDLED, sha256, write_card
from namm_mm.results.statistics import wilson
from research.builders.pocket_video import (
    COVERED,
    VALIDATION,
    Judge,
    adapter_of,
    in_words,
    samples,
    save_state,
    versions,
)
from research.builders.smollm2_video_batches import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor

    from namm_mm.adapters.video.adapter import LlavaVideoAdapter

ASSET = "smollm2_video"
LOOKS, STEPS = 150, 800
CLIPS, QUESTIONS = 4, 8
LOOK_PEAK, PEAK = 2e-3, 1e-3
REPORTED = 50
SAVED, JUDGED = 25, 150
"""Steps between two checkpoints, and between two looks at the validation videos."""


def build(
    out: Path | None = None,
    *,
    seed: int = 0,
    steps: int = STEPS,
    looks: int = LOOKS,
    threads: int = 1,
    resume: bool = True,
    work: Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train, select, score and save the trained part.

    Parameters
    ----------
    out
        Folder of the asset; None is the bundled one, which is replaced.
    seed
        Of weights and training data.
    steps, looks
        Optimiser steps of the whole, and before of the projector alone.
    threads
        Of torch.
    resume
        Go on from the checkpoint in `work`, if there is one.
    work
        Where checkpoints are kept; None is a folder in the cache.
    say
        Is told how it goes, a line at a time.

    Returns
    -------
    Path
        The asset: ``trained.safetensors`` in bfloat16, and its card.

    Raises
    ------
    RunError
        A package with one of the other parts, or with the real clips, is missing; the message holds
        the command.
    """
    import torch

    torch.set_num_threads(threads)
    out = out or BUNDLED / ASSET
    work = work or cache_root() / "build" / f"{ASSET}-{seed}-{looks}-{steps}"
    part, seconds = train(work, seed, steps, looks, resume=resume, say=say)
    say("scoring on validation and test videos")
    save(out, part, seed=seed, steps=steps, looks=looks, seconds=seconds)
    return out


class Parts:
    """The packaged parts, and the whole that they make with some trained part."""

    def __init__(self) -> None:
        self.language, self.vision = (
            packaged_model.convert(packaged_model.MODELS[name])
            for name in (composed_model.LANGUAGE, composed_model.VISION)
        )
        self.tokenizer = composed_model.make_tokenizer(self.language)

    def model(self) -> Any:
        """The model before training."""
        return composed_model.make_model(self.language, self.vision, self.tokenizer)

    def adapter(self, part: Mapping[str, Tensor]) -> LlavaVideoAdapter:
        """Return the adapter of the model with this trained part, as it is used."""
        model = self.model()
        composed_model.merge(model, dict(part))
        return adapter_of(
            ASSET, model, self.tokenizer, composed_model.preprocessor(), answer_by="words"
        )


def train(
    work: Path,
    seed: int,
    steps: int,
    looks: int,
    *,
    resume: bool,
    say: Callable[[str], None],
    judges: int = VALIDATION,
) -> tuple[dict[str, Tensor], float]:
    """Train on, or from the beginning; return the part that was best on validation, and seconds.

    `judges` is the number of validation videos of each family.
    """
    import torch

    from research.builders import smollm2_video_training as training

    torch.manual_seed(seed)
    parts = Parts()
    model = parts.model()
    names = training.Names(model, parts.tokenizer)
    projector, changes = training.prepare(model)
    optimizer = training.make_optimizer([*changes, *projector])
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": (-1.0, None)}
    saved = work / "training.pt"
    begun = time.monotonic()
    if resume and saved.is_file():
        state = torch.load(saved, weights_only=True)
        training.take(model, state["part"])
        optimizer.load_state_dict(state["optimizer"])
        begun -= state["seconds"]
        say(f"resuming after step {state['step']} of {steps}")
    else:
        looking = training.look(
            model, names, training.make_optimizer(projector),
            steps=looks, seed=seed, peak=LOOK_PEAK,
        )  # fmt: skip
        for step, right in looking:
            if step % SAVED == 0 or step == looks:
                say(f"projector {step}/{looks}: {right:.0%} of the training frames right")
    judge = Judge(parts.adapter, samples("validation", judges, FAMILIES))
    sums: dict[str, float] = {}
    lessons = training.learn(
        model, names, optimizer, parts.tokenizer,
        start=state["step"], steps=steps, seed=seed, peak=PEAK, clips=CLIPS, questions=QUESTIONS,
    )  # fmt: skip
    for step, told in lessons:
        sums = {key: sums.get(key, 0.0) + value / SAVED for key, value in told.items()}
        if step % SAVED and step != steps:
            continue
        say(f"step {step}/{steps}, {time.monotonic() - begun:.0f} s: {in_words(sums)}")
        sums = {}
        part = {name: value.clone() for name, value in training.trained(model).items()}
        if step % JUDGED == 0 or step == steps:
            scores = judge.accuracy(part)
            say(f"validation: {in_words(scores)}")
            mean = sum(scores.values()) / len(scores)
            if mean >= state["best"][0]:
                state["best"] = mean, part
        state.update(step=step, part=part, optimizer=optimizer.state_dict())
        state["seconds"] = time.monotonic() - begun
        save_state(state, saved)
    best: dict[str, Tensor] | None = state["best"][1]
    return best if best is not None else state["part"], state["seconds"]


def save(
    out: Path,
    part: Mapping[str, Tensor],
    *,
    seed: int,
    steps: int,
    looks: int,
    seconds: float,
    each: int = REPORTED,
) -> None:
    """Write the asset and its card; the scores are those of the bfloat16 part that is saved.

    Families that are right in `COVERED` of `each` test videos at least are said to be covered.
    """
    import torch

    kept = {name: value.to(torch.bfloat16).contiguous() for name, value in part.items()}
    parts = Parts()
    scores = {
        split: Judge(parts.adapter, samples(split, each, FAMILIES)).accuracy(kept)
        for split in ("validation", "test")
    }
    composed_model.save_trained(out, kept, parts.model().config)
    covered = [family for family, value in scores["test"].items() if value >= COVERED]
    write_card(
        out,
        made_by="namm-mm build smollm2-video",
        about="LlavaNextVideo of SmolLM2-135M and DINOv2-small, trained on generated videos",
        licence="Apache-2.0",
        model_class="LlavaNextVideoForConditionalGeneration",
        parts={
            name: packaged_model.MODELS[name].sha256
            for name in (composed_model.LANGUAGE, composed_model.VISION)
        },
        parameters_trained=sum(value.numel() for value in kept.values()),
        what_is_trained="the projector, and changes of rank 16 to the attention's matrices; vision "
        "tower, embeddings and all else of the language model are as packaged",
        data={
            "source": "namm_mm.tasks.video_qa: rendered while training, split train",
            "families": covered,
            "not_learned": [family for family in FAMILIES if family not in covered],
            "clips": steps * CLIPS,
            "questions": steps * CLIPS * QUESTIONS,
        },
        training={
            "seed": seed,
            "projector_steps": looks,
            "steps": steps,
            "seconds": round(seconds),
            "selected_on": f"{VALIDATION} validation videos of each family",
        },
        answer_by="words",
        accuracy_full_cache={
            split: {family: round(value, 3) for family, value in found.items()}
            for split, found in scores.items()
        },
        interval_test={
            family: [round(end, 3) for end in wilson(value, each)]
            for family, value in scores["test"].items()
        },
        videos_per_family=each,
        chance=0.25,
        reads="32 frames of 56 x 56 pixels, 4 tokens each",
        sha256_trained=sha256(out / composed_model.TRAINED),
        versions=versions(),
    )
