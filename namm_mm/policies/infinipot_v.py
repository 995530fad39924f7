"""InfiniPot-V: frames that repeat go, and values that weigh little (arXiv 2506.15745)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from namm_mm.errors import UsageError, message
from namm_mm.policies.base import LayerView, Policy
from namm_mm.records import TokenType

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (7, 5, 3, 1)
"""Neighbouring tokens over which the norms of values are maximised, by quarter of the layers."""


@dataclass(frozen=True)
class InfiniPotV(Policy):
    """Half of the budget by redundancy over time, half by the norm of values. For video alone.

    Tokens that are of no frame stay; the frames share what is left. Over time, the newest frames
    come first. A token of an older frame counts minus the mean cosine of its key and the keys of
    the same patch in the newest frames. The other half goes to the largest L2 norms of values,
    after a maximum over neighbouring tokens: 7 wide in the lowest quarter of the layers, then 5, 3
    and 1.

    Attributes
    ----------
    newest
        Part of the frames seen so far that older ones are compared with.
    part
        Part of the budget that is spent by redundancy over time.
    frames
        For each token its frame and its patch, or None; :meth:`for_tokens` sets it.
    """

    name: ClassVar[str] = "infinipot_v"
    content: ClassVar[str | None] = "video"
    newest: float = 0.25
    part: float = 0.5
    frames: tuple[tuple[int, int] | None, ...] = field(default=(), repr=False)
    places: Tensor | None = field(init=False, repr=False, compare=False)

    def check(self) -> None:
        """Make one table of the frames, for all layers and evictions.

        Raises
        ------
        UsageError
            A part is outside 0 to 1.
        """
        for name, given in (("newest", self.newest), ("part", self.part)):
            if not 0.0 < given <= 1.0:
                raise UsageError(
                    message(
                        f"wrong {name} of infinipot_v", given=given, expected="above 0, at most 1"
                    )
                )
        object.__setattr__(self, "places", self._table(self.frames))

    def for_tokens(self, token_types: Sequence[TokenType]) -> Self:
        """Return the policy with the frames of a video.

        Raises
        ------
        UsageError
            No token is of a frame.
        """
        count: Counter[int] = Counter()
        frames: list[tuple[int, int] | None] = []
        for token in token_types:
            frames.append((token.index, count[token.index]) if token.kind == "frame" else None)
            count[token.index] += token.kind == "frame"
        if not any(frames):
            raise self._no_frames(f"{len(frames)} tokens")
        return replace(self, frames=tuple(frames))

    def score(self, view: LayerView) -> Tensor:
        """(row, kv_head, slot): 3 and more for tokens of no frame, 2 for the first half, norms."""
        import torch

        if self.places is None:
            raise self._no_frames("nothing")
        frame, patch = self._at(self.places, view.positions)
        seen = int((self.places[: view.seen, 1] == 0).sum())
        recent = frame >= seen - max(1, round(self.newest * seen))
        shown = (frame >= 0) & view.filled
        limits = view.lengths if view.limits is None else view.limits
        others = (view.filled & ~shown).sum(-1)
        left = (limits - others).clamp_min(0)
        redundant = _mean_cosine(view.keys.float(), patch, recent & shown, len(self.frames))
        over_time = (-redundant).where(~recent, 2.0 + view.positions / len(self.frames))
        first = _best(over_time, shown, (left * self.part).long())
        norms = view.values.float().square().sum(-1).sqrt().masked_fill(~shown, 0.0)
        width = WIDTHS[min(3, 4 * view.layer // view.layers)]
        norms = torch.nn.functional.max_pool1d(norms, width, 1, width // 2)
        norms = norms / norms.amax(-1, keepdim=True).clamp_min(1e-12)
        return norms.where(~first, 2.0).where(shown, 3.0 + view.positions.float())

    @staticmethod
    def _table(frames: Sequence[tuple[int, int] | None]) -> Tensor | None:
        """(token and one more, 2) int64: frame and patch; -1 for tokens of no frame, and later."""
        if not frames:
            return None
        import torch

        return torch.tensor([*(place or (-1, -1) for place in frames), (-1, -1)])

    @staticmethod
    def _at(places: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(row, kv_head, slot) int64 each: frame and patch, -1 for tokens of no frame.

        Position -1, an empty slot, finds the last place: of no frame.
        """
        found = places.to(positions.device)[positions.clamp_max(len(places) - 1)]
        return found[..., 0], found[..., 1]

    def _no_frames(self, given: str) -> UsageError:
        return UsageError(
            message(
                f"{self.name} needs to know which tokens are of which frame",
                given=given,
                expected="a video: policy.for_tokens(inputs.token_types)",
                then="On text, expected_attention or keydiff score without attention, too.",
            )
        )


def _best(scores: Tensor, among: Tensor, size: Tensor) -> Tensor:
    """(row, kv_head, slot) bool: the `size` (row, kv_head) best of the tokens `among`."""
    ranked = scores.masked_fill(~among, float("-inf"))
    rank = ranked.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return (rank < size[..., None]) & among


def _mean_cosine(keys: Tensor, patch: Tensor, recent: Tensor, patches: int) -> Tensor:
    """(row, kv_head, slot): mean cosine with the `recent` keys of the same patch; 0 without any.

    The mean of cosines is the product with the mean of the normalised keys.
    """
    import torch

    unit = torch.nn.functional.normalize(keys, dim=-1)
    place = patch.clamp_min(0)
    weight = recent.to(unit.dtype)
    rows, heads, _, dim = keys.shape
    index = place[..., None].expand(-1, -1, -1, dim)
    total = unit.new_zeros(rows, heads, patches, dim)
    total = total.scatter_add(2, index, unit * weight[..., None])
    count = unit.new_zeros(rows, heads, patches).scatter_add(2, place, weight)
    anchor = total / count.clamp_min(1.0)[..., None]
    return (unit * anchor.gather(2, index)).sum(-1)
