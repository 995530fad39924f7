"""``namm-mm build trimkv``: train the gates of TrimKV for a language model, layer by layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.build import Builder
from namm_mm.policies.projections import output_projections
from namm_mm.policies.trim_gates import GATES, TrimGates
from research.builders.text.smollm2 import NAME, file_for
from research.gradients import trim_gates as training
from research.residuals import recording

TOKENS, HELD_OUT = 512, 4


@dataclass(frozen=True)
class BuildTrimKV(Builder):
    """Trains gates of TrimKV.

    Attributes
    ----------
    model
        A language model: an asset, a folder or a hub id.
    out
        The ``.safetensors`` file; None replaces the bundled one, that of SmolLM2.
    sequences, epochs, seed
        Training sequences of 512 tokens, passes over them, and the seed.
    hidden
        Width of the gates.
    capacity
        Part of the tokens that may be retained without a loss.
    """

    model: str = NAME
    out: Path | None = None
    sequences: int = 16
    epochs: int = 8
    seed: int = 0
    hidden: int = 32
    capacity: float = 0.25

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the file; `say` is told one line for each layer."""
        file = file_for(self.model, self.out, GATES)
        adapter = TextAdapter(model=self.model)
        adapter.load()
        given: list[Tensor] = []
        for split, count in (("train", self.sequences), ("test", HELD_OUT)):
            given += recording.cut_prose(adapter.tokenizer, split, count, TOKENS)
        gates = self.train_model(adapter.backbone, given, say)
        return gates.save(file)

    def train_model(
        self, model: Any, given: Sequence[Tensor], say: Callable[[str], None]
    ) -> TrimGates:
        """Return gates trained on all sequences but the last `HELD_OUT`."""
        torch.manual_seed(self.seed)
        start = time.process_time()
        projections = output_projections(model)
        parts, errors = [], []
        for layer, attended in enumerate(recording.record(model, given)):
            heads, _, width = attended[0].keys.shape
            part = training.new_part(heads, width + attended[0].values.shape[-1], self.hidden)
            projection = projections[layer].flatten(0, 1).T.float()
            part = training.train(
                part, attended[:-HELD_OUT], projection, self.capacity, self.epochs
            )
            with torch.no_grad():
                held_out = [
                    torch.stack(training.losses(part, one, projection, self.capacity))
                    for one in attended[-HELD_OUT:]
                ]
            error, above = torch.stack(held_out).mean(0).tolist()
            say(f"layer {layer}: output error {error:.3f}, {above:.3f} above the capacity")
            parts.append(part)
            errors.append(round(error, 4))
        card = {
            "model": self.model,
            "capacity": self.capacity,
            "sequences": len(given) - HELD_OUT,
            "epochs": self.epochs,
            "held_out_output_error": errors,
            "cpu_seconds": round(time.process_time() - start),
            "made_by": "namm-mm build trimkv",
            "licence": "Apache-2.0",
        }
        stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return TrimGates(stacked, card)
