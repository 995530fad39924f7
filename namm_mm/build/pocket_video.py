"""``namm-mm build pocket-video``: make the bundled video model again from nothing.

Vision first, then language (:mod:`namm_mm.build.pocket_video_training`); checkpoints are compared
on validation videos, and the best one is scored once on test videos. Both are really encoded and
read back with the real decoder, and share no seed and no combination of attributes with training.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.packaged_model import cache_root
from namm_mm.records import Sample
from namm_mm.tasks.video_qa.questions import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ASSET = "pocket_video"
CHECKPOINT = "training.pt"
LOOKS = 400
STEPS = 4000
CLIPS, QUESTIONS = 8, 6
PEAK = 2e-3
EVERY = 100
VALIDATION, REPORTED = 20, 100


def build(
    out: Path | None = None,
    *,
    seed: int = 0,
    steps: int = STEPS,
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
    steps
        Optimiser steps of the language model.
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
    """
    from namm_mm.asset import BUNDLED

    out = out or BUNDLED / ASSET
    work = work or cache_root() / "build" / f"{ASSET}-{seed}-{steps}"
    model, tokenizer, seconds = train(work, seed=seed, steps=steps, resume=resume, say=say)
    say("scoring on validation and test videos")
    save(out, model, tokenizer, seed=seed, steps=steps, seconds=seconds)
    return out


def train(
    work: Path, *, seed: int, steps: int, resume: bool, say: Callable[[str], None]
) -> tuple[Any, PreTrainedTokenizerFast, float]:
    """Train on, or from nothing, and return the weights that were best on validation.

    The third value is the training time in seconds.
    """
    import torch
    from transformers import AttentionInterface

    from namm_mm.build import pocket_video_training as training
    from namm_mm.build.pocket_video_model import make_model, make_tokenizer

    AttentionInterface.register(training.ATTENTION, training.block_attention)
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model: Any = make_model(tokenizer)
    heads = training.ExtraHeads(model.config.text_config.hidden_size, tokenizer)
    validation = _samples("validation", VALIDATION)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": (-1.0, None), "optimizer": None}
    saved = work / CHECKPOINT
    if resume and saved.is_file():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        say(f"resuming at step {state['step']} of {steps}")
    begun = time.monotonic() - state["seconds"]
    if "model" not in state:
        model.set_attn_implementation({"vision_config": "eager"})
        for step, right in training.look(model.train(), heads, steps=LOOKS, seed=seed):
            if step % EVERY == 0:
                say(f"vision {step}/{LOOKS}: {right:.0%} of the training frames right")
    optimizer = training.make_optimizer(model, heads)
    if state.get("optimizer"):
        optimizer.load_state_dict(state["optimizer"])
    model.set_attn_implementation({"text_config": training.ATTENTION})
    best: tuple[float, Any] = state["best"]
    sums: dict[str, float] = {}
    lessons = training.learn(
        model.train(), heads, optimizer, tokenizer,
        start=state["step"], steps=steps, seed=seed, peak=PEAK, clips=CLIPS, questions=QUESTIONS,
    )  # fmt: skip
    for step, told in lessons:
        sums = {key: sums.get(key, 0.0) + value / EVERY for key, value in told.items()}
        if step % EVERY and step != steps:
            continue
        model.set_attn_implementation({"text_config": "sdpa"})
        scores = accuracy(model.eval(), tokenizer, validation)
        model.train().set_attn_implementation({"text_config": training.ATTENTION})
        mean = sum(scores.values()) / len(scores)
        if mean >= best[0]:
            best = mean, {key: value.clone() for key, value in model.state_dict().items()}
        say(f"step {step}/{steps}: {_words(sums)}; validation {_words(scores)}")
        sums = {}
        state = {"model": model.state_dict(), "heads": heads.state_dict(), "best": best}
        state |= {"optimizer": optimizer.state_dict(), "step": step}
        state["seconds"] = time.monotonic() - begun
        _save_state(state, saved)
    if best[1] is not None:
        model.load_state_dict(best[1])
    model.set_attn_implementation({"text_config": "sdpa", "vision_config": "sdpa"})
    return model.eval(), tokenizer, state["seconds"]


def accuracy(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    samples: Sequence[Sample],
) -> dict[str, float]:
    """Accuracy per family with the full cache, through the adapter, from the files."""
    from namm_mm.adapters.llava_video import LlavaVideoAdapter
    from namm_mm.adapters.video_frames import read_preprocessor
    from namm_mm.adapters.video_kinds import KINDS
    from namm_mm.adapters.video_loading import LoadedVideoModel
    from namm_mm.build.pocket_video_model import preprocessor_config

    adapter = LlavaVideoAdapter(model=ASSET)
    adapter.use(
        LoadedVideoModel(
            model=model,
            tokenizer=tokenizer,
            kind=KINDS["llava_next_video"],
            preprocess=read_preprocessor(preprocessor_config(), "llava_next_video"),
            processor={},
            video_token=model.config.video_token_id,
            placeholder="<video>",
            chat_template=tokenizer.chat_template,
        )
    )
    right: dict[str, list[bool]] = {}
    for sample in samples:
        answer = adapter.answer(adapter.prepare(sample), None)
        right.setdefault(sample.family, []).append(answer.text == sample.answer)
    return {family: sum(found) / len(found) for family, found in right.items()}


def save(
    out: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    steps: int,
    seconds: float,
) -> None:
    """Write the asset and its card; the scores are those of the bfloat16 weights that are saved."""
    import torch

    from namm_mm.asset import write_card
    from namm_mm.build.pocket_video_model import save_layout

    model = model.to(torch.bfloat16)
    for file in out.glob("*"):
        file.unlink()
    save_layout(out, model, tokenizer)
    scores = {
        split: accuracy(model, tokenizer, _samples(split, REPORTED))
        for split in ("validation", "test")
    }
    write_card(
        out,
        made_by="namm-mm build pocket-video",
        about="LlavaNextVideo, 1.3 M parameters, trained on generated question videos",
        licence="Apache-2.0",
        model_class="LlavaNextVideoForConditionalGeneration",
        parameters=sum(p.numel() for p in model.parameters()),
        data={
            "source": "namm_mm.tasks.video_qa: rendered while training, split train",
            "families": list(FAMILIES),
            "clips": steps * CLIPS,
            "questions": steps * CLIPS * QUESTIONS,
        },
        training={
            "seed": seed,
            "vision_steps": LOOKS,
            "steps": steps,
            "seconds": round(seconds),
            "selected_on": f"{VALIDATION} validation videos of each family",
        },
        accuracy_full_cache={
            split: {family: round(value, 3) for family, value in found.items()}
            for split, found in scores.items()
        },
        videos_per_family=REPORTED,
        chance=0.25,
        reads="32 frames of 64 x 64 pixels, 4 tokens each; words outside its vocabulary are <unk>",
        versions=_versions(),
    )


def _samples(split: str, each: int) -> Sequence[Sample]:
    from namm_mm.tasks.video_qa import VideoQaTask

    return VideoQaTask().samples(split, each * len(FAMILIES), seed=1000)


def _save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old or the new one."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    torch.save(dict(state), unfinished)
    os.replace(unfinished, path)


def _words(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.2f}" for key, value in numbers.items())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "av", "numpy")}
