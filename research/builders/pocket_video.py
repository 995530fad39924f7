"""``namm-mm build pocket-video``: make the bundled video model again.

Vision first, then language (:mod:`research.builders.pocket_video_training`), from nothing or from
the weights of an earlier build; checkpoints are compared on validation videos, and the best one is
scored once on test videos. Both are really encoded and read back with the real decoder, and share
no seed, no combination of attributes and no frame of footage with training.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.models.cache import cache_root
from namm_mm.models.cards import read_card, write_card
from namm_mm.models.resolve import resolve
from namm_mm.records import Inputs, Sample
from namm_mm.results.statistics import wilson
from namm_mm.tasks.video_qa.footage import PACKAGE
from namm_mm.tasks.video_qa.questions import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from namm_mm.adapters.video.adapter import LlavaVideoAdapter

ASSET = "pocket_video"
CHECKPOINT = "training.pt"
LOOKS = 400
STEPS = 4000
CLIPS, QUESTIONS = 8, 4
PEAK, LOOK_PEAK = 2e-3, 3e-3
SAVED, JUDGED = 50, 200
"""Steps between two checkpoints, and between two looks at the validation videos."""

VALIDATION, REPORTED = 20, 100
COVERED = 0.8
"""Test accuracy from which on a family is said to be covered."""


def build(
    out: Path | None = None,
    *,
    seed: int = 0,
    steps: int = STEPS,
    looks: int = LOOKS,
    start: str | None = None,
    resume: bool = True,
    work: Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train, select, score and save the pocket video model.

    Parameters
    ----------
    out
        Folder of the asset; None is the bundled one, which is replaced.
    seed
        Of weights and training data.
    steps, looks
        Optimiser steps of the language model, and before of the vision tower.
    start
        Begin with the weights of this asset or folder, at half the learning rate and without hints;
        None begins from nothing.
    resume
        Go on from the checkpoint in `work`, if there is one.
    work
        Where checkpoints are kept; None is a folder in the cache.
    say
        Is told how it goes, a line at a time.

    Returns
    -------
    Path
        The asset: weights in bfloat16, tokenizer, preprocessor and card, in hub layout.

    Raises
    ------
    RunError
        The package with the real clips is missing; the message holds the command.
    """
    from namm_mm.models.cards import BUNDLED

    out = out or BUNDLED / ASSET
    origin = "nothing" if start is None else Path(start).name
    work = work or cache_root() / "build" / f"{ASSET}-{seed}-{looks}-{steps}-{origin}"
    plan = Plan(seed, steps, looks, start)
    model, tokenizer, history = train(work, plan, resume=resume, say=say)
    say("scoring on validation and test videos")
    save(out, model, tokenizer, plan, history)
    return out


@dataclass(frozen=True)
class Plan:
    """What decides the weights; see :func:`build`."""

    seed: int = 0
    steps: int = STEPS
    looks: int = LOOKS
    start: str | None = None

    @property
    def gentle(self) -> float:
        """Factor of the learning rates."""
        return 1.0 if self.start is None else 0.5


def train(
    work: Path, plan: Plan, *, resume: bool, say: Callable[[str], None], judges: int = VALIDATION
) -> tuple[Any, PreTrainedTokenizerFast, dict[str, Any]]:
    """Train on, or from the beginning, and return the weights that were best on validation.

    `judges` is the number of validation videos of each family. The third value is what the card
    says of the training: its seconds, and how the weights that it began with were made.
    """
    import torch

    from research.builders import pocket_video_training as training
    from research.builders.pocket_video_model import make_model, make_tokenizer, take_weights

    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer()
    model: Any = make_model(tokenizer)
    heads = training.ExtraHeads(model.config.text_config.hidden_size, tokenizer)
    state: dict[str, Any] = {"looked": 0, "step": 0, "seconds": 0.0, "best": (-1.0, None)}
    saved = work / CHECKPOINT
    if resume and saved.is_file():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        say(f"resuming after {state['looked']} looks and step {state['step']} of {plan.steps}")
    elif plan.start is not None:  # asked for once: the asset may be the one that is replaced
        folder = Path(resolve(plan.start))
        take_weights(model, folder)
        card = read_card(folder)
        state["base"] = {key: card[key] for key in ("data", "training", "history") if key in card}
    begun = time.monotonic() - state["seconds"]

    def keep(optimizer: torch.optim.Optimizer, **changed: Any) -> None:
        state.update(changed, model=model.state_dict(), heads=heads.state_dict())
        state.update(optimizer=optimizer.state_dict(), seconds=time.monotonic() - begun)
        save_state(state, saved)

    model.set_attn_implementation({"vision_config": "eager"})
    if state["looked"] < plan.looks:
        optimizer = training.make_vision_optimizer(model, heads)
        if state["looked"]:
            optimizer.load_state_dict(state["optimizer"])
        looking = training.look(
            model.train(), heads, optimizer,
            start=state["looked"], steps=plan.looks, seed=plan.seed, peak=LOOK_PEAK * plan.gentle,
        )  # fmt: skip
        for step, right in looking:
            if step % SAVED == 0 or step == plan.looks:
                say(f"vision {step}/{plan.looks}: {right:.0%} of the training frames right")
                keep(optimizer, looked=step)
    optimizer = training.make_optimizer(model, heads)
    if state["step"]:
        optimizer.load_state_dict(state["optimizer"])
    sums: dict[str, float] = {}
    lessons = training.learn(
        model.train(), heads, optimizer, tokenizer,
        start=state["step"], steps=plan.steps, seed=plan.seed, peak=PEAK * plan.gentle,
        clips=CLIPS, questions=QUESTIONS, hints=0.5 if plan.start is None else 0.0,
    )  # fmt: skip
    judge = Judge(adapter_around(tokenizer), samples("validation", judges))
    for step, told in lessons:
        sums = {key: sums.get(key, 0.0) + value / SAVED for key, value in told.items()}
        if step % SAVED and step != plan.steps:
            continue
        say(f"step {step}/{plan.steps}: {in_words(sums)}")
        sums = {}
        best = state["best"]
        if step % JUDGED == 0 or step == plan.steps:
            scores = judge.accuracy(model.eval())
            model.train()
            say(f"validation: {in_words(scores)}")
            mean = sum(scores.values()) / len(scores)
            if mean >= best[0]:
                best = mean, {key: value.clone() for key, value in model.state_dict().items()}
        keep(optimizer, step=step, best=best)
    if state["best"][1] is not None:
        model.load_state_dict(state["best"][1])
    model.set_attn_implementation({"vision_config": "sdpa"})
    history = {"seconds": round(state["seconds"]), "base": state.get("base")}
    return model.eval(), tokenizer, history


class Judge:
    """Accuracy per family with the full cache, through the adapter, from the files.

    Files are read once; models may change in between.
    """

    def __init__(
        self, adapter_of: Callable[[Any], LlavaVideoAdapter], asked: Sequence[Sample]
    ) -> None:
        self._adapter_of = adapter_of
        self._asked = asked
        self._inputs: list[Inputs] | None = None

    def accuracy(self, model: Any) -> dict[str, float]:
        """Score `model` as it is now."""
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


def adapter_around(tokenizer: PreTrainedTokenizerFast) -> Callable[[Any], LlavaVideoAdapter]:
    """What makes the adapter of a model that is in memory."""
    from research.builders.pocket_video_model import preprocessor

    return lambda model: adapter_of(ASSET, model, tokenizer, preprocessor())


def adapter_of(
    name: str, model: Any, tokenizer: Any, preprocessor: dict[str, Any], **options: Any
) -> LlavaVideoAdapter:
    """The adapter of a LlavaNextVideo model that is in memory."""
    from namm_mm.adapters.video.adapter import LlavaVideoAdapter
    from namm_mm.adapters.video.frames import read_preprocessor
    from namm_mm.adapters.video.kinds import KINDS
    from namm_mm.adapters.video.loading import LoadedVideoModel

    adapter = LlavaVideoAdapter(model=name, **options)
    adapter.use(
        LoadedVideoModel(
            model=model,
            tokenizer=tokenizer,
            kind=KINDS["llava_next_video"],
            preprocess=read_preprocessor(preprocessor, "llava_next_video"),
            processor={},
            video_token=model.config.video_token_id,
            placeholder="<video>",
            chat_template=tokenizer.chat_template,
        )
    )
    return adapter


def save(
    out: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    plan: Plan,
    history: Mapping[str, Any],
    *,
    each: int = REPORTED,
) -> None:
    """Write the asset and its card; the scores are those of the bfloat16 weights that are saved.

    The card says which families are covered: those that are right in `COVERED` of `each` test
    videos at least. The others are listed with their scores as not learned.
    """
    import torch

    from research.builders.pocket_video_model import save_layout

    model = model.to(torch.bfloat16)
    scores = {
        split: Judge(adapter_around(tokenizer), samples(split, each)).accuracy(model)
        for split in ("validation", "test")
    }
    covered = [family for family, value in scores["test"].items() if value >= COVERED]
    for file in out.glob("*"):
        file.unlink()
    save_layout(out, model, tokenizer)
    write_card(
        out,
        made_by="namm-mm build pocket-video",
        about="LlavaNextVideo, 1.3 M parameters, trained on generated question videos",
        licence="Apache-2.0",
        model_class="LlavaNextVideoForConditionalGeneration",
        parameters=sum(p.numel() for p in model.parameters()),
        data={
            "source": "namm_mm.tasks.video_qa: rendered while training, split train; footage from "
            f"{PACKAGE}",
            "families": covered,
            "not_learned": [family for family in FAMILIES if family not in covered],
            "clips": plan.steps * CLIPS,
            "questions": plan.steps * CLIPS * QUESTIONS,
        },
        training={
            "seed": plan.seed,
            "start": plan.start or "nothing",
            "vision_steps": plan.looks,
            "steps": plan.steps,
            "seconds": history["seconds"],
            "selected_on": f"{VALIDATION} validation videos of each family",
        },
        base=history["base"],
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
        reads="32 frames of 64 x 64 pixels, 4 tokens each; words outside its vocabulary are <unk>",
        versions=versions(),
    )


def samples(split: str, each: int, families: Sequence[str] = tuple(FAMILIES)) -> Sequence[Sample]:
    """The videos that weights are compared and scored on: `each` of every family."""
    from namm_mm.tasks.video_qa import VideoQaTask

    return VideoQaTask(families=tuple(families)).samples(split, each * len(families), seed=1000)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old or the new one."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    torch.save(dict(state), unfinished)
    os.replace(unfinished, path)


def in_words(numbers: Mapping[str, float]) -> str:
    """Name and value of each."""
    return ", ".join(f"{key} {value:.2f}" for key, value in numbers.items())


def versions() -> dict[str, str]:
    """Of the packages that weights depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "av", "numpy")}
