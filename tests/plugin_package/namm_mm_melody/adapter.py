"""Melodies: a GPT-2 over notes. A token is one note; its type is the bar that it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.records import Answer, Inputs, Sample, TokenType

if TYPE_CHECKING:
    from namm_mm.memory import Memory

NOTES = ("C", "D", "E", "F", "G", "A", "B")
PER_BAR = 4


@dataclass
class MelodyAdapter(AnsweringAdapter):
    """Says which note comes next in a melody, with a GPT-2 of seven words."""

    model: str = "random"
    _model: Any = field(default=None, init=False, repr=False)

    @property
    def model_name(self) -> str:
        """Name of the model in records."""
        return f"melody-{self.model}"

    @property
    def backbone(self) -> Any:
        """The model, to which the memory is attached."""
        return self._model

    def load(self) -> None:
        """Load a folder in hub layout, or draw random weights."""
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        if self.model == "random":
            torch.manual_seed(0)
            config = GPT2Config(
                vocab_size=len(NOTES), n_embd=32, n_layer=2, n_head=4, initializer_range=0.3
            )
            self._model = GPT2LMHeadModel(config)
        else:
            self._model = GPT2LMHeadModel.from_pretrained(self.model)
        self._model.eval()

    def prepare(self, sample: Sample) -> Inputs:
        """Return one token and one token type for each note."""
        import torch

        ids = torch.tensor([[NOTES.index(note) for note in sample.context.split()]])
        types = tuple(TokenType("bar", at // PER_BAR) for at in range(ids.shape[1]))
        return Inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, types, sample)

    def answer(self, inputs: Inputs, memory: Memory | None) -> Answer:
        """Return the most probable option; the memory is attached already."""
        import torch

        with torch.no_grad():
            logits = self._model(**inputs.tensors, use_cache=True).logits[0, -1]
        scores = logits.log_softmax(-1)
        options = inputs.sample.options
        chances = tuple(float(scores[NOTES.index(option)]) for option in options)
        best = max(range(len(options)), key=chances.__getitem__)
        return Answer(options[best], best, chances, tokens=len(inputs.token_types))
