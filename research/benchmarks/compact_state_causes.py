"""Why a NAMM's compact state keeps other tokens than the float32 state on one prompt.

    python research/benchmarks/compact_state_causes.py --sample 3

Runs one prompt of ``compact_state.py`` in float32 under variants of the state, each against the
float32 state: only the means rounded to codes, only the last weights, both, means in more bits than
the 10 of the codes, and means that are multiplied by 1 + ``--noise`` x a normal number instead.
``one decision`` compares the two states on the same kept tokens: both are folded, and the float32
one decides. ``free`` lets each state decide for itself, so that each later layer and update sees
other tokens. ``margin`` is the median distance of a score from 0, where tokens are kept: of tokens
on which the two states disagree in one decision, and of all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from namm_mm import attach
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.namm.codes import Opened
from namm_mm.namm.spectrogram import turned
from namm_mm.observations.base import State
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import LayerView
from namm_mm.policies.namm import NammPolicy
from namm_mm.tasks.long_text.task import LongTextTask
from research.benchmarks.common import markdown, options
from research.benchmarks.compact_state import Kept, _until, jaccard

INTERVAL = 128
VARIANTS = ("float32", "means", "weights", "both", "12 bits", "14 bits", "noise")


@dataclass(frozen=True)
class Rounded(SpectrogramOf):
    """The float32 state, and beside it one that is rounded in part whenever it is held."""

    variant: str = "both"
    noise: float = 0.0

    def initial(self, rows: int, heads: int, slots: int, device: torch.device | str) -> State:
        """Zeros, twice, and whose turn it is."""
        sizes = {"ema": 17, "recent": 16, "ema_2": 17, "recent_2": 16, "turn": 1}
        return {
            name: torch.zeros(rows, heads, slots, size, device=device)
            for name, size in sizes.items()
        }

    def opened(self, state: State) -> State:
        """Slots last."""
        return {name: turned(part) for name, part in state.items()}

    def fold(self, state: State, weights: Tensor) -> State:
        """Fold both."""
        for number in ("", "_2"):
            self.spectrogram.fold(state[f"ema{number}"], state[f"recent{number}"], weights)
        return state

    def closed(self, state: State) -> State:
        """Round the second one."""
        ema, recent = state["ema_2"], state["recent_2"]
        turn = state["turn"].to(torch.uint8)
        if self.codes is not None and self.variant in ("means", "weights", "both"):
            read = self.codes.unpack(self.codes.pack(Opened(ema, recent, turn)))
            ema = ema if self.variant == "weights" else read.ema
            recent = recent if self.variant == "means" else read.recent
            turn = read.turn
        elif self.variant.endswith("bits"):
            ema = self._in_bits(ema, int(self.variant.split()[0]))
        elif self.variant == "noise":
            ema = ema * (1.0 + self.noise * torch.randn(ema.shape))
        found = {**state, "ema_2": ema, "recent_2": recent, "turn": turn.float()}
        return {name: turned(part) for name, part in found.items()}

    def _in_bits(self, ema: Tensor, bits: int) -> Tensor:
        """Means (..., bin, slot) as codes of so many bits would hold them; rounded at random."""
        held = self.codes.middles if self.codes is not None else ()
        middles, most = torch.tensor(held)[:, None], 2.0**bits - 1
        code = (ema / (ema + middles) * most + torch.rand(ema.shape)).floor().clamp(max=most - 1)
        return code / (most - code) * middles

    def read(self, state: State) -> Tensor:
        """Both spectra one behind the other: (row, kv_head, slot, 34)."""
        return torch.cat([state["ema"], state["ema_2"]], dim=-1)


@dataclass(frozen=True)
class Compared(NammPolicy):
    """Scores both states; the second decides where `free`, else the first."""

    variant: str = field(default="both", kw_only=True)
    noise: float = field(default=0.0, kw_only=True)
    free: bool = field(default=False, kw_only=True)
    decisions: list[tuple[float, Tensor, Tensor]] = field(
        default_factory=list, kw_only=True, compare=False
    )

    @property
    def needs(self) -> Rounded:
        """Both states."""
        return Rounded(self.spectrogram, self.network.codes, self.variant, self.noise)

    def score(self, view: LayerView) -> Tensor:
        """Score both, note on how many tokens they agree."""
        found = view.statistics["spectrogram"]
        spectra = found[..., :17], found[..., 17:]
        exact, rounded = (self.network.score(s, view.age, view.lengths) for s in spectra)
        kept, other = exact >= 0, rounded >= 0
        shown = view.filled
        both, either = (kept & other & shown).sum(-1), ((kept | other) & shown).sum(-1)
        overlap = float((both / either.clamp_min(1)).mean())
        disagreed = (kept != other) & shown
        self.decisions.append((overlap, exact[disagreed].abs(), exact[shown].abs()))
        return rounded if self.free else exact


def main() -> None:
    """Print the table of one prompt."""
    parser = options(__doc__, sample=3, noise=(1e-6, 1e-4, 1e-3), words=300)
    given = parser.parse_args()
    torch.manual_seed(0)
    adapter = TextAdapter(model="smollm2-135m-instruct", device="cpu", dtype="float32")
    adapter.load()
    sample = LongTextTask(words=given.words).samples("test", given.sample + 1, 0)[given.sample]
    ids = adapter.prepare(sample).tensors["input_ids"]
    exact = run(adapter, ids, Compared(budget="threshold", variant="float32"))
    rows = []
    for variant in VARIANTS:
        for noise in given.noise if variant == "noise" else (0.0,):
            rows.append(row(adapter, ids, exact, variant, noise))
    print(f"`{sample.id}`, {ids.shape[1]} tokens\n")
    head = ("rounded", "one decision", "lowest", "free", "margin, disagreed", "margin, all")
    print(markdown(head, rows))


def row(adapter: TextAdapter, ids: Tensor, exact: Kept, variant: str, noise: float) -> list[str]:
    """Return the row of one variant."""
    how: Any = {"budget": "threshold", "variant": variant, "noise": noise}
    watched = Compared(**how)
    run(adapter, ids, watched)
    free = jaccard(exact, run(adapter, ids, Compared(**how, free=True)))
    overlaps = [overlap for overlap, _, _ in watched.decisions]
    disagreed = _median([gaps for _, gaps, _ in watched.decisions])
    everywhere = _median([gaps for _, _, gaps in watched.decisions])
    name = f"noise {noise:g}" if noise else variant
    lowest = min(overlaps)
    config: Any = adapter.backbone.config
    layers = int(config.num_hidden_layers)
    update, layer = divmod(overlaps.index(lowest), layers) if lowest < 1 else (0, 0)
    told = f"{sum(overlaps) / len(overlaps):.4f}", f"{lowest:.4f}"
    if lowest < 1:
        told = told[0], f"{told[1]} (layer {layer}, update {update})"
    return [name, *told, f"{free:.4f}", disagreed, everywhere]


def _median(parts: Sequence[Tensor]) -> str:
    together = torch.cat(list(parts))
    return f"{together.median():.3f}" if together.numel() else ""


def run(adapter: TextAdapter, ids: Tensor, policy: NammPolicy) -> Kept:
    """Read the prompt; return what each head keeps of the tokens up to the last eviction."""
    model: Any = adapter.backbone
    with torch.no_grad(), attach(model, policy, interval=INTERVAL, storage="per_head") as memory:
        model(ids, past_key_values=memory.cache, logits_to_keep=1)
    return _until(memory, ids.shape[1] // INTERVAL * INTERVAL)


if __name__ == "__main__":
    main()
