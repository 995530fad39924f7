"""Two samples never share a file, whatever their names are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from namm_mm.records import Inputs, Sample
from namm_mm.runs.names import file_name
from namm_mm.runs.pictures import save_frames

TEXTS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(["a-b", "a", "b-c", "c"])


def picture(run: Path, cell: str, sample: str) -> str:
    frames = torch.rand(1, 2, 3, 8, 8)
    return save_frames(run, cell, Inputs({"pixel_values_videos": frames}, (), Sample(sample, "")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("video", "q?1"), ("video", "q!1")),
        (("video", "q_1"), ("video", "q?1")),
        (("video", "b-c"), ("video-b", "c")),
        (("video", "é"), ("video", "è")),
        (("video", "x" * 300 + "1"), ("video", "x" * 300 + "2")),
        (("video", "\ud83d"), ("video", "\ud83e")),
    ],
)
def test_samples_do_not_share_a_picture(
    tmp_path: Path, one: tuple[str, str], other: tuple[str, str]
) -> None:
    names = [picture(tmp_path, *one), picture(tmp_path, *other)]
    assert names[0] != names[1]
    assert all((tmp_path / name).is_file() for name in names)


def test_common_names_stay_readable() -> None:
    assert file_name("text", "passkey-test-0-0", "h2o", "match:namm", "128", "0") == (
        "text-passkey-test-0-0-h2o-match_namm-128-0"
    )


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_names_of_different_parts_differ(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    names = file_name(*one), file_name(*other)
    assert (names[0] == names[1]) is (one == other)
    assert all(len(name) < 200 and "/" not in name for name in names)


def test_a_picture_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    assert picture(tmp_path / "gone", "video", "a") == ""
