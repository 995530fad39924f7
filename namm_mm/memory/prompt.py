"""Where a prompt ends, for ``protocol="prune_after_prefill"``, however it is fed.

A prompt may come in one call, in several, or in the pieces of ``prefill_chunk_size``. Decoding
tells that it is over: a call of one column. One column may be the last piece of a prompt too.
``generate`` cuts the mask and the positions of a piece from those of the whole prompt, and that is
how such a column is told from a decoded token.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from namm_mm.errors import UsageError, message


@dataclass(frozen=True)
class _Cut:
    """A part of the columns of a larger tensor, up to column `end` of `whole`."""

    tensor: Tensor  # held, so that its memory is not given to another one
    whole: int
    end: int

    @classmethod
    def of(cls, given: object) -> _Cut | None:
        if not isinstance(given, Tensor) or given.dim() < 2:
            return None
        whole = max(given.stride(-2), given.shape[-1])
        return cls(given, whole, int(given.storage_offset()) % max(whole, 1) + given.shape[-1])

    def goes_on_from(self, before: _Cut) -> bool:
        """Whether both were cut from one tensor, this one after the other."""
        storages = [cut.tensor.untyped_storage().data_ptr() for cut in (self, before)]
        return storages[0] == storages[1] and self.whole == before.whole and self.end > before.end


class Prompt:
    """The prompt of the sequences of one cache.

    Parameters
    ----------
    ends
        Number of columns of the prompt, padding included; None: it ends where decoding begins.
    """

    def __init__(self, ends: int | None = None) -> None:
        if ends is not None and ends < 1:
            raise UsageError(
                message("wrong length of a prompt", given=ends, expected="1 column or more")
            )
        self.ends = ends
        self._single = False  # the first call brought one column
        self._cut: _Cut | None = None  # of the newest call
        self._goes_on = False  # the newest call was cut where the call before ended
        self._mask: Tensor | None = None  # of the newest call, where it was given on the CPU

    def note(self, mask: object, positions: object) -> None:
        """Look at what the next call brings, as the caller gave it."""
        on_host = isinstance(mask, Tensor) and mask.device.type == "cpu"
        self._mask = mask if on_host and isinstance(mask, Tensor) else None
        before, self._cut = self._cut, _Cut.of(mask) or _Cut.of(positions)
        self._goes_on = (
            self._cut is not None and before is not None and self._cut.goes_on_from(before)
        )

    def mask_of(self, padding: Tensor | None) -> Tensor | None:
        """Return what `padding` (row, column) says, as the caller gave it if that is on the CPU.

        A mask on a device has to be read: the host waits once in each call.
        """
        if padding is None or self._mask is None or self._mask.shape != padding.shape:
            return padding
        return self._mask.bool()

    def is_over(self, before: int, count: int) -> bool:
        """Whether a call of `count` columns after `before` others decodes."""
        if before == 0:
            self._single = count == 1
            return False
        if self.ends is not None:
            return before >= self.ends
        if count > 1:
            return False
        if self._goes_on and self._cut is not None:
            return not (self._single or self._cut.end == self._cut.whole)
        return True

    def ends_with(self, before: int, count: int) -> bool:
        """Whether it is known that the prompt ends with this call."""
        return self.ends is not None and before < self.ends <= before + count
