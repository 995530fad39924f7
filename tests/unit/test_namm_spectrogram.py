"""The streamed spectrogram equals the plain transform of the whole signal."""

from __future__ import annotations

import pytest
import torch
from compare import assert_copied
from stft import frames_reference
from torch import Tensor
from torch.nn import functional as F

from namm_mm.errors import UsageError
from namm_mm.namm.spectrogram import Spectrogram, SpectrogramState

pytestmark = pytest.mark.numeric


def reference_ema(spectrogram: Spectrogram, columns: Tensor) -> Tensor:
    """Exponential mean of the oracle's frames over a whole signal (..., time)."""
    frames = frames_reference(spectrogram, F.pad(columns, (spectrogram.hop, 0)))
    a = spectrogram.decay
    ema = torch.zeros_like(frames[..., 0, :])
    for frame in frames.unbind(-2):
        ema = a * ema + (1 - a) * frame
    return ema


def grow(state: SpectrogramState, slots: int) -> SpectrogramState:
    return SpectrogramState(*(F.pad(part, (0, 0, 0, slots - part.shape[2])) for part in state))


@pytest.mark.parametrize("calls", [[96], [16, 80], [16] * 6, [48, 32, 16]])
def test_any_split_into_calls_gives_the_stft_of_the_whole(calls: list[int]) -> None:
    spectrogram = Spectrogram(gamma=0.97)
    attention = torch.rand(2, 3, sum(calls), 40)
    state = spectrogram.initial(2, 3, 40)
    frames = []
    for part in torch.split(attention, calls, dim=2):
        frames.append(spectrogram.frames(state, part))
        state = spectrogram.advance(state, part)
    columns = attention.transpose(2, 3)
    wanted = frames_reference(spectrogram, F.pad(columns, (16, 0))).transpose(2, 3)
    torch.testing.assert_close(torch.cat(frames, dim=2), wanted, atol=1e-5, rtol=0)
    ema = reference_ema(spectrogram, columns)
    torch.testing.assert_close(state.ema, ema, atol=1e-5, rtol=0)


def test_tokens_keep_their_signal_across_evictions() -> None:
    """Each token's spectrum is that of its own attention, whatever was evicted around it."""
    spectrogram = Spectrogram(gamma=0.99)
    signals = torch.rand(1, 2, 96, 96).tril()  # (row, head, query, token)
    state = spectrogram.initial(1, 2, 0)
    kept = torch.empty(1, 2, 0, dtype=torch.int64)
    for start in range(0, 96, 32):
        new = torch.arange(start, start + 32).expand(1, 2, 32)
        kept = torch.cat([kept, new], dim=2)
        rows = signals[:, :, start : start + 32]
        attention = rows.gather(3, kept[:, :, None].expand(-1, -1, 32, -1))
        state = spectrogram.advance(grow(state, kept.shape[2]), attention)
        index = torch.rand(1, 2, kept.shape[2]).argsort(-1)[..., :20].sort(-1).values
        kept = kept.gather(2, index)
        state = SpectrogramState(
            *(part.gather(2, index[..., None].expand(-1, -1, -1, part.shape[3])) for part in state)
        )
    wanted = reference_ema(spectrogram, signals.transpose(2, 3))
    wanted = wanted.gather(2, kept[..., None].expand(-1, -1, -1, 17))
    torch.testing.assert_close(state.ema, wanted, atol=1e-5, rtol=0)


def test_the_state_holds_nothing_but_itself() -> None:
    """No view into the attention of the call: that would keep all of it alive."""
    spectrogram = Spectrogram()
    state = spectrogram.advance(spectrogram.initial(1, 2, 40), torch.rand(1, 2, 96, 40))
    for part in state:
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


def test_advance_leaves_its_state_alone() -> None:
    spectrogram = Spectrogram()
    state = spectrogram.advance(spectrogram.initial(1, 1, 4), torch.rand(1, 1, 32, 4))
    before = [part.clone() for part in state]
    spectrogram.advance(state, torch.rand(1, 1, 32, 4))
    for part, old in zip(state, before, strict=True):
        assert_copied(part, old)


def test_strided_and_half_precision_attention_is_taken() -> None:
    spectrogram = Spectrogram()
    attention = torch.rand(1, 2, 10, 32).transpose(2, 3).to(torch.bfloat16)
    state = spectrogram.advance(spectrogram.initial(1, 2, 10), attention)
    wanted = reference_ema(spectrogram, attention.float().transpose(2, 3))
    torch.testing.assert_close(state.ema, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("queries", [1, 15, 17])
def test_queries_that_fill_no_whole_hop_are_refused(queries: int) -> None:
    spectrogram = Spectrogram()
    with pytest.raises(UsageError, match=f"got {queries}, expected a multiple of the hop of 16"):
        spectrogram.advance(spectrogram.initial(1, 1, 4), torch.rand(1, 1, queries, 4))


@pytest.mark.parametrize(
    ("interval", "near"),
    [(100, "96 or 112"), (5, "16"), (0, "16"), (-3, "16"), (513, "512 or 528")],
)
def test_a_wrong_interval_names_the_nearest_ones(interval: int, near: str) -> None:
    with pytest.raises(UsageError, match=rf"got {interval}, .* Nearest: {near}\."):
        Spectrogram().check_interval(interval)


@pytest.mark.parametrize("interval", [16, 128, 512])
def test_multiples_of_the_hop_are_fine(interval: int) -> None:
    Spectrogram().check_interval(interval)


def equal_shares(length: int, *, relative: bool) -> Tensor:
    """What is read of the tokens of a context where every query looks at all tokens alike."""
    spectrogram = Spectrogram(gamma=0.999, relative=relative)
    state = spectrogram.initial(1, 1, 0)
    for start in range(0, length, 64):
        stop = start + 64
        seen = torch.ones(64, stop).tril(start)
        state = spectrogram.advance(
            grow(state, stop), (seen / seen.sum(-1, keepdim=True))[None, None]
        )
    age = torch.arange(length - 1, -1, -1)[None, None]
    return spectrogram.read(state.ema, age)[0, 0, :, 0]


def test_a_relative_share_looks_the_same_in_any_context() -> None:
    """An equal share reads as the sum of the window, whatever the length and the age."""
    for length in (128, 512, 1024):
        shares = equal_shares(length, relative=True)
        torch.testing.assert_close(shares, torch.full_like(shares, 16.0), atol=0.0, rtol=1e-3)
    short, long = (equal_shares(length, relative=False)[-100] for length in (128, 1024))
    assert float(short / long) > 1.5
