"""Video: multiple choice and free answers by the LLaVA video models of transformers.

The clip is fed first and the rest of the prompt after it, in two calls on one cache. A streaming
memory does not tell the difference, and under ``prune_after_prefill`` the prefill is then the
video, pruned before any question is known. With ``options`` the answer is read off the last
position: the option whose letter is the most probable. With ``generate`` the model writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from namm_mm.adapters import loading
from namm_mm.adapters.timing import TokenTimes, now
from namm_mm.adapters.video_loading import LoadedVideoModel, load_video_model
from namm_mm.adapters.video_prompt import LETTERS, question_text
from namm_mm.asset import resolve
from namm_mm.errors import UsageError, message
from namm_mm.records import Answer, Inputs, Role, Sample
from namm_mm.video import BACKENDS, sample_frames

if TYPE_CHECKING:
    from torch import nn

    from namm_mm.memory import Memory

ANSWERS = ("options", "generate")


@dataclass
class LlavaVideoAdapter:
    """Runs LlavaNextVideo, LlavaOnevision or VideoLlava on questions about video files.

    Parameters
    ----------
    model
        Local folder, asset name or hub id, as :func:`namm_mm.asset.resolve` takes it.
    frames
        How many frames to sample from a file, evenly.
    dtype
        ``auto`` is bfloat16 where the device computes in it natively, else float32.
    device
        ``auto`` is CUDA where there is one; ``cpu``, ``cuda``, ``cuda:1``.
    answer_by
        ``options`` compares the letters of a sample's options; ``generate`` decodes greedily.
    max_new_tokens
        Longest answer under ``generate``.
    decoder
        Backend of :func:`namm_mm.video.sample_frames`: ``auto``, ``decord`` or ``pyav``.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    model: str = "pocket_video"
    frames: int = 32
    dtype: str = "auto"
    device: str = "auto"
    answer_by: str = "options"
    max_new_tokens: int = 16
    decoder: str = "auto"
    _loaded: LoadedVideoModel | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, given, valid in (
            ("answer_by", self.answer_by, ANSWERS),
            ("dtype", self.dtype, loading.DTYPES),
            ("decoder", self.decoder, ("auto", *BACKENDS)),
        ):
            if given not in valid:
                raise UsageError(
                    message(f"unknown {name}", given=given, expected="a known one", valid=valid)
                )
        loading.check_device(self.device)
        for name, number in (("frames", self.frames), ("max_new_tokens", self.max_new_tokens)):
            if number < 1:
                raise UsageError(message(f"wrong {name}", given=number, expected="1 or more"))

    @property
    def model_name(self) -> str:
        """The name that was asked for."""
        return self.model

    @property
    def backbone(self) -> nn.Module:
        """The language model inside the video model."""
        module: nn.Module = self.loaded.model.model.language_model
        return module

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    def load(self) -> None:
        """Load model, tokenizer and preprocessor; see :class:`namm_mm.adapters.base.Adapter`."""
        if self._loaded is None:
            device = loading.choose_device(self.device)
            dtype = loading.choose_dtype(self.dtype, device)
            self._loaded = load_video_model(resolve(self.model), self.model, device, dtype)

    def use(self, loaded: LoadedVideoModel) -> None:
        """Take a model that is in memory already, instead of loading one."""
        self._loaded = loaded

    def prepare(self, sample: Sample) -> Inputs:
        """Read the frames, word the prompt, and expand the video's placeholder.

        The tokens of the clip have the role ``frame`` with the index of their frame; all others,
        and Onevision's closing newline, are ``text``.
        """
        import torch

        ready = self.loaded
        if sample.video is None:
            raise UsageError(
                message(f"sample {sample.id!r} has no video", given=None, expected="a video file")
            )
        if len(sample.options) > len(LETTERS):
            raise UsageError(
                message(
                    f"sample {sample.id!r} has too many options",
                    given=len(sample.options),
                    expected=f"at most {len(LETTERS)}",
                )
            )
        clip = sample_frames(sample.video, self.frames, backend=self.decoder)
        pixels = ready.preprocess(clip.frames)
        layout = ready.layout(pixels)
        ids = self._encode(self._prompt(sample))
        at = ids.index(ready.video_token)
        count = layout.total(len(pixels))
        roles = [Role("text")] * at
        for frame in range(len(pixels)):
            roles += [Role("frame", frame)] * layout.tokens_per_frame
        roles += [Role("text")] * (layout.trailing + len(ids) - at - 1)
        tokens = torch.tensor([ids[:at] + [ready.video_token] * count + ids[at + 1 :]])
        device, dtype = ready.model.device, ready.model.dtype
        tensors = {
            "input_ids": tokens.to(device),
            "attention_mask": torch.ones_like(tokens).to(device),
            "pixel_values_videos": pixels[None].to(device, dtype),
        }
        return Inputs(tensors, tuple(roles), sample)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Choose the option whose letter is the most probable next token, or generate."""
        import torch

        with torch.no_grad():
            if self.answer_by == "generate" or not inputs.sample.options:
                return self._generate(inputs)
            return self._choose(inputs)

    # -- the two ways to answer ---------------------------------------------------------------

    def _choose(self, inputs: Inputs) -> Answer:
        sample = inputs.sample
        letters = self._letters(self._prompt(sample), len(sample.options))
        start = self._clock()
        cache, end = self._watch(inputs)
        output = self.loaded.model(
            input_ids=inputs.tensors["input_ids"][:, end:],
            attention_mask=inputs.tensors["attention_mask"],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        found = output.logits[0, -1].float().log_softmax(-1)[letters].tolist()
        seconds = self._clock() - start
        best = max(range(len(found)), key=found.__getitem__)
        return Answer(
            text=sample.options[best],
            option=best,
            log_probabilities=tuple(found),
            first_token_seconds=seconds,
            tokens=len(inputs.roles) + 1,
        )

    def _generate(self, inputs: Inputs) -> Answer:
        ready = self.loaded
        times = TokenTimes(ready.model.device)
        cache, _ = self._watch(inputs)
        output = ready.model.generate(
            input_ids=inputs.tensors["input_ids"],
            attention_mask=inputs.tensors["attention_mask"],
            past_key_values=cache,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=ready.pad_token,
            streamer=times,
        )
        new = output[0, len(inputs.roles) :]
        text = ready.tokenizer.decode(new, skip_special_tokens=True).strip()
        return Answer(
            text=text,
            option=_letter_in(text, inputs.sample.options),
            first_token_seconds=times.first_token_seconds,
            token_seconds=times.token_seconds,
            tokens=int(output.shape[1]),
        )

    def _watch(self, inputs: Inputs) -> tuple[Any, int]:
        """Feed everything up to the end of the video; return the cache and how much it was."""
        video = (inputs.tensors["input_ids"][0] == self.loaded.video_token).nonzero()
        end = int(video[-1]) + 1
        output = self.loaded.model(
            input_ids=inputs.tensors["input_ids"][:, :end],
            attention_mask=inputs.tensors["attention_mask"][:, :end],
            pixel_values_videos=inputs.tensors["pixel_values_videos"],
            use_cache=True,
            logits_to_keep=1,
        )
        return output.past_key_values, end

    # -- text to tokens -----------------------------------------------------------------------

    def _prompt(self, sample: Sample) -> str:
        """The whole prompt as text, with one placeholder for the video."""
        ready = self.loaded
        text = question_text(sample.question, sample.options, context=sample.context)
        if ready.placeholder in text:
            raise UsageError(
                message(
                    f"sample {sample.id!r} contains the video placeholder",
                    given=ready.placeholder,
                    expected="a question without it: the adapter puts the video first",
                )
            )
        if ready.chat_template:
            content = [{"type": "video"}, {"type": "text", "text": text}]
            worded: str = ready.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=ready.chat_template,
                tokenize=False,
                add_generation_prompt=True,
            )
            if worded.count(ready.placeholder) == 1:
                return worded  # a template for text only has no place for the video
        return ready.kind.template.replace("<video>", ready.placeholder).replace("{text}", text)

    def _encode(self, text: str) -> list[int]:
        tokenizer = self.loaded.tokenizer
        own = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
        return list(tokenizer(text, add_special_tokens=not own)["input_ids"])

    def _letters(self, prompt: str, count: int) -> list[int]:
        """The token that begins each option's letter, as it comes after `prompt`."""
        space = "" if prompt[-1].isspace() else " "
        before = self._encode(prompt)
        found = []
        for letter in LETTERS[:count]:
            ids = self._encode(prompt + space + letter)
            alone = self.loaded.tokenizer(letter, add_special_tokens=False)["input_ids"]
            continues = ids[: len(before)] == before and len(ids) == len(before) + 1
            found.append(ids[-1] if continues else alone[-1])
        if len(set(found)) < count:
            raise UsageError(
                message(
                    f"the tokenizer of {self.model!r} does not tell the options' letters apart",
                    given=dict(zip(LETTERS, found, strict=False)),
                    expected="one token for each letter",
                    then="Use answer_by=generate.",
                )
            )
        return found

    @property
    def loaded(self) -> LoadedVideoModel:
        """The model and what belongs to it."""
        if self._loaded is None:
            raise UsageError("the video adapter has no model yet: call `load()` first.")
        return self._loaded

    def _clock(self) -> float:
        return now(self.loaded.model.device)


def _letter_in(text: str, options: Sequence[str]) -> int | None:
    """The option that a generated answer names: by its letter at the start, or by its words."""
    head = text.lstrip("( ").split(".")[0].split(")")[0].split(":")[0].split(" ")[0]
    if len(head) == 1 and head in LETTERS[: len(options)]:
        return LETTERS.index(head)
    named = [i for i, option in enumerate(options) if option.lower() == text.strip(" .").lower()]
    return named[0] if named else None
