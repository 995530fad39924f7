"""Sound files of every make: read as one channel at 16 kHz, or refused with what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from namm_mm.errors import RunError
from namm_mm.sound import read_sound, write_wav
from namm_mm.sound import reading as module

RATE = 16_000


def tone(rate: int, seconds: float = 1.0, pitch: float = 440.0) -> np.ndarray:
    """A sine, (sample,)."""
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)


def pitch_of(samples: np.ndarray) -> float:
    """The strongest frequency of samples at 16 kHz, in Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_becomes_that_of_the_model(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(rate), rate)
    found = read_sound(tmp_path / "tone.wav")
    assert found.rate == RATE
    assert found.samples.dtype == np.float32
    assert found.seconds == pytest.approx(1.0, abs=1e-3)
    assert pitch_of(found.samples) == pytest.approx(440, abs=1.5)
    assert np.abs(found.samples[400:-400]).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"tone.{suffix}"
    soundfile.write(file, tone(RATE), RATE)
    found = read_sound(file)
    assert found.seconds == pytest.approx(1.0, abs=0.1)  # MP3 pads
    assert pitch_of(found.samples) == pytest.approx(440, abs=2)


def test_several_channels_become_their_mean(tmp_path: Path) -> None:
    left, right, rear = tone(RATE), tone(RATE, pitch=1000), np.zeros(RATE)
    soundfile.write(tmp_path / "three.wav", np.stack([left, right, rear], 1), RATE)
    found = read_sound(tmp_path / "three.wav").samples
    np.testing.assert_allclose(found, (left + right) / 3, atol=1e-4)


def test_what_we_write_is_read_again_and_a_killed_write_leaves_nothing(tmp_path: Path) -> None:
    write_wav(tmp_path / "below" / "tone.wav", np.append(tone(RATE), [3.0, -3.0]), RATE)
    found = read_sound(tmp_path / "below" / "tone.wav").samples
    np.testing.assert_allclose(found[:-2], tone(RATE), atol=1e-4)
    assert found[-2:] == pytest.approx([1.0, -1.0], abs=1e-4)  # clipped, not wrapped
    assert [one.name for one in (tmp_path / "below").iterdir()] == ["tone.wav"]


def test_silence_is_a_sound(tmp_path: Path) -> None:
    write_wav(tmp_path / "silence.wav", np.zeros((RATE, 2)), RATE)
    assert not read_sound(tmp_path / "silence.wav").samples.any()


def test_a_length_that_its_writer_did_not_know_is_fine(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", tone(RATE), RATE)
    data = bytearray((tmp_path / "tone.wav").read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"  # what ffmpeg writes into a pipe
    (tmp_path / "piped.wav").write_bytes(data)
    assert read_sound(tmp_path / "piped.wav").seconds == pytest.approx(1.0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    whole = tmp_path / f"whole.{suffix}"
    draw = np.random.default_rng(0)
    soundfile.write(whole, tone(RATE, 3.0) + 0.1 * draw.standard_normal(3 * RATE), RATE)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: round(len(data) * part)])
    assert read_sound(whole).seconds == pytest.approx(3.0, abs=0.01)
    with pytest.raises(RunError, match=r"'cut\.\w+' (is cut off|cannot be decoded)"):
        read_sound(cut)


def test_what_is_no_sound_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    odd = tone(RATE)
    odd[8000:8003] = (np.nan, np.inf, np.nan)
    soundfile.write(tmp_path / "nan.wav", odd, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", 32_000 * tone(RATE), RATE, subtype="FLOAT")
    opposed = np.stack([tone(RATE), -tone(RATE)], 1)
    soundfile.write(tmp_path / "opposed.wav", opposed, RATE)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 2000)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "words.wav").write_text("no sound at all")
    (tmp_path / "music.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(64))
    for name, told in {
        "nan.wav": r"no number: got '3 samples, the first after 0.500 seconds'",
        "loud.wav": "Divide 16-bit numbers by 32768",
        "opposed.wav": "channels that cancel each other",
        "none.wav": "holds no samples",
        "slow.wav": r"too low a rate: got '2000 Hz'",
        "empty.wav": r"is empty: got '0 bytes'",
        "words.wav": "cannot be decoded",
        "music.m4a": "ffmpeg -i music.m4a -ac 1 -ar 16000 sound.wav",
        "absent.wav": "no such sound file",
        ".": "no such sound file",
    }.items():
        with pytest.raises(RunError, match=told):
            read_sound(tmp_path / name)


def test_a_sound_that_is_too_long_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", np.zeros(3 * RATE), RATE)
    with pytest.raises(RunError, match=r"too long: got '3.0 seconds', expected at most 2. Cut it"):
        read_sound(tmp_path / "long.wav", longest=2, then="Cut it.")
    assert read_sound(tmp_path / "long.wav", longest=3).seconds == 3


def test_missing_packages_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "tone.wav", tone(RATE), RATE)
    monkeypatch.setitem(sys.modules, "soxr", None)
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "soxr" else object())
    with pytest.raises(RunError, match=r"no package soxr.*pip install 'namm-mm\[speech\]'"):
        read_sound(tmp_path / "tone.wav")
