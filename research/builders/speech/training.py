"""Train the projector: first to say the words, then to make the frozen language model answer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from namm_mm.adapters.common.loading import cpu_has_bfloat16
from namm_mm.models.composed_speech import projector_of
from research.builders.speech.talks import Heard
from research.builders.video.optimizing import Phase, optimise

RIDGE = 1e-3
"""Weight of the penalty on large weights, as a part of the number of tokens."""


class Reader:
    """What the frozen language model answers to talks through the projector.

    Parameters
    ----------
    model, processor
        Of :mod:`namm_mm.models.composed_speech`.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.projector = projector_of(model)
        self._language = model.model.language_model
        self._table: Tensor = self._language.embed_tokens.weight.detach()
        self._tokenizer = processor.tokenizer
        self._turn = processor.chat_template

    def token(self, word: str) -> int:
        """Return the first token of a word after a space."""
        ids: list[int] = self._tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        return next((i for i in ids if self._tokenizer.decode([i]).strip()), ids[-1])

    def embedded(self, words: Sequence[str]) -> Tensor:
        """Return the embedding of each word: (word, width) float32."""
        return self._table[[self.token(word) for word in words]].float()

    def logits(self, talks: Sequence[Heard]) -> Tensor:
        """Return (talk, vocabulary) float32 where the answer begins.

        Rows are padded at their ends, which no earlier position sees.
        """
        rows = [self._row(talk) for talk in talks]
        longest = max(map(len, rows))
        padded = torch.stack(
            [torch.nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows]
        )
        hidden = self._language(inputs_embeds=padded).last_hidden_state
        last = torch.stack([hidden[i, len(row) - 1] for i, row in enumerate(rows)])
        logits: Tensor = (last @ self._table.T).float()
        return logits

    def right(self, talks: Sequence[Heard]) -> dict[str, float]:
        """Return the accuracy by family: the likeliest of the options' first tokens is right."""
        found: dict[str, list[bool]] = {}
        with torch.no_grad():
            for talk in talks:
                chances = self.logits([talk])[0][[self.token(word) for word in talk.options]]
                found.setdefault(talk.family, []).append(int(chances.argmax()) == 0)
        return {family: sum(hits) / len(hits) for family, hits in found.items()}

    def _row(self, talk: Heard) -> Tensor:
        content = [{"type": "audio"}, {"type": "text", "text": talk.question}]
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self._turn,
            tokenize=False,
            add_generation_prompt=True,
        )
        before, after = (
            self._table[self._tokenizer(part)["input_ids"]] for part in text.split("<|AUDIO|>")
        )
        weight = self.projector.weight
        heard = self.projector(talk.features.to(weight.dtype)).to(self._table.dtype)
        return torch.cat([before, heard, after])


def start(reader: Reader, talks: Sequence[Heard]) -> None:
    """Set the projector to the linear map that comes closest to the embeddings of what is said."""
    width = talks[0].features.shape[1] + 1
    inner, outer = torch.zeros(width, width), torch.zeros(width, reader.projector.out_features)
    count = 0
    for talk in talks:
        given = torch.cat([talk.features.float(), torch.ones(len(talk.features), 1)], dim=1)
        inner += given.T @ given
        outer += given.T @ reader.embedded(talk.spoken())
        count += len(given)
    solved = torch.linalg.solve(inner + RIDGE * count * torch.eye(width), outer)
    reader.projector.weight.data = solved[:-1].T.contiguous()
    reader.projector.bias.data = solved[-1].clone()


def steps(
    reader: Reader,
    optimizer: torch.optim.Optimizer,
    talks: Mapping[str, Sequence[Heard]],
    batch: int,
    phase: Phase,
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Take the steps of `phase`; yield finished steps with the loss and the part that was right.

    The loss is the log-likelihood of a right word among all words that talks may say. Of ``word``
    all that were said are right, in equal parts.
    """
    words = sorted({word for found in talks.values() for talk in found for word in _asked(talk)})
    places = {word: place for place, word in enumerate(words)}
    tokens = [reader.token(word) for word in words]

    def make(step: int) -> list[Heard]:
        draw = random.Random(f"{phase.seed} {step}")
        family = draw.choice(sorted(talks))
        return [draw.choice(talks[family]) for _ in range(batch)]

    def compute(chosen: list[Heard], _: int) -> tuple[Tensor, Mapping[str, float]]:
        logits = reader.logits(chosen)
        likely = logits[:, tokens].log_softmax(-1)
        losses, hits = [], 0.0
        for row, talk in enumerate(chosen):
            right = _said(talk) if talk.family == "word" else [talk.plan.answer]
            losses.append(-likely[row, [places[word] for word in right]].mean())
            options = [places[word] for word in talk.options]
            hits += float(int(likely[row, options].argmax()) == 0) / len(chosen)
        loss = torch.stack(losses).mean()
        return loss, {"loss": float(loss.detach()), "right": hits}

    return optimise(optimizer, phase, make, compute, autocast=cpu_has_bfloat16())


def _said(talk: Heard) -> list[str]:
    return sorted({text for text in talk.plan.texts if " " not in text})


def _asked(talk: Heard) -> list[str]:
    return [*_said(talk), *talk.options]
