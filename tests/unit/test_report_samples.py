"""Single samples in a report: what was asked, frames, and histories of what was kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from report_makers import make_report, write
from synthetic_records import make_history, make_record, make_records, with_histories

from namm_mm import report
from namm_mm.records import Asked, Inputs, Media, Sample
from namm_mm.report import html, markdown
from namm_mm.report.contents import build
from namm_mm.results.blocks import Histories, Report, Samples
from namm_mm.runs.load import load_runs
from namm_mm.runs.pictures import save_frames


def test_single_samples_show_what_was_asked_and_what_each_policy_kept(tmp_path: Path) -> None:
    asked = Asked("Which </script> colour?", ("red", "blue"), "red")
    records = [
        make_record(
            policy=policy,
            sample=f"s{index:02d}",
            answer="blue",
            value=0.0,
            asked=asked,
            kept_by_index={"frame": [1.0, kept, 0.25]},
        )
        for policy, kept in (("full", 1.0), ("namm", 0.5))
        for index in range(30)
    ]
    made = make_report(tmp_path, records)
    (viewer,) = [b for s in made.sections for b in s.blocks if isinstance(b, Samples)]
    assert 10 <= len(viewer.views) <= 24
    assert "of 30 samples are here" in viewer.description
    view = viewer.views[0]
    assert (view.rows, view.values) == (
        ("full", "namm"),
        ((1.0, 1.0, 0.25), (1.0, 0.5, 0.25)),
    )
    assert ("options", "red / blue") in view.about
    assert ("right answer", "red") in view.about
    assert ("namm", "blue (accuracy 0.000)") in view.about
    page, document = html.render(made), markdown.render(made)
    assert "Which </script>" not in page
    assert "- namm: 100% 50% 25%" in document


def test_frames_are_pictured_as_the_model_got_them(tmp_path: Path) -> None:
    frames = torch.zeros(1, 3, 3, 20, 10)
    frames[0, 1] = 1.0  # black, white, black, whatever the normalisation was
    inputs = Inputs({"pixel_values_videos": 2 * frames - 1}, (), Sample("a/b.mp4", "video"))
    name = save_frames(tmp_path, "video", inputs)
    assert name.startswith("frames/video-a_b.mp4")
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (3 * 32, 64)
        assert [picture.getpixel((16 + 32 * k, 32)) for k in range(3)] == [
            (0, 0, 0),
            (255, 255, 255),
            (0, 0, 0),
        ]
    assert save_frames(tmp_path, "text", Inputs({}, (), Sample("c", "text"))) == ""

    kept: dict[str, Any] = {"kept_by_index": {"frame": [1.0, 0.5, 0.0]}}
    records = [
        make_record(sample="a", media=Media(name), **kept),
        make_record(sample="b", media=Media("../../outside.jpg"), **kept),
        make_record(sample="c", **kept),
    ]
    made = make_report(tmp_path, records)
    (viewer,) = [b for s in made.sections for b in s.blocks if isinstance(b, Samples)]
    assert [(view.name, bool(view.frames)) for view in viewer.views] == [("a", True), ("b", False)]
    assert "data:image/jpeg;base64," in html.render(made)


def watched_report(folder: Path) -> Report:
    records = with_histories(make_records(3), folder, ("s000", "s001"))
    return build(load_runs([write(folder, records)]))


def test_a_watched_sample_can_be_looked_into_by_layer_and_head(tmp_path: Path) -> None:
    made = watched_report(tmp_path)
    found = [block for s in made.sections for block in s.blocks if isinstance(block, Histories)]
    assert [block.views[0].form for block in found] == ["text", "frames", "steps"]
    assert "2 of 3 samples" in found[0].description
    for block in found:
        assert [one.policy for one in block.views[0].histories][:2] == [
            "full",
            "namm threshold",
        ]
    assert found[1].views[0].frames.startswith("data:image/jpeg")
    page = html.render(made)
    assert page.count('data-what="update"') == 3
    assert '"returns": [0.0, 1.0, 3.0' in page


def test_pictures_and_histories_have_a_limit_in_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("namm_mm.report.histories.ENTRIES", 3 * 5 * make_history("").forgotten.size)
    monkeypatch.setattr("namm_mm.report.samples.PICTURES", 1)
    records = with_histories(make_records(4), tmp_path, ("s000", "s001", "s002"))
    made = build(load_runs([write(tmp_path, records)]))
    blocks = [block for section in made.sections for block in section.blocks]
    for block in blocks:
        if isinstance(block, Histories):
            assert len(block.views) == 2
            assert "more would make this report too large" in block.description
        if isinstance(block, Samples) and block.views[0].frames:
            assert len(block.views) == 1


def test_a_damaged_history_costs_the_look_and_not_the_report(tmp_path: Path) -> None:
    records = with_histories(make_records(2), tmp_path, ("s000",))
    for file in (tmp_path / "history").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    made = build(load_runs([write(tmp_path, records)]))
    assert not [b for s in made.sections for b in s.blocks if isinstance(b, Histories)]


@pytest.mark.slow
def test_markdown_has_pictures_beside_it_with_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = with_histories(make_records(3), tmp_path, ("s000",))
    write(tmp_path, records)
    document = report.render([tmp_path], kind="markdown").read_text()
    named = re.findall(r"!\[[^\]]*\]\((report_pictures/[^)]+\.png)\)", document)
    assert len(named) == 13 + 2  # as many figures as in HTML, one video and one episode
    for name in named:
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert pixels.shape[1] > 500
        assert pixels.std() > 5, f"{name} is blank"
    held = markdown.remembered(make_history("long_text"), 0)
    assert held.split() == markdown_text(document, "layer 0")
    assert "20: " in document  # kept after so many tokens


def markdown_text(document: str, layer: str) -> list[str]:
    (line,) = [line for line in document.splitlines() if line.startswith(f"> {layer}: ")]
    return line.partition(": ")[2].replace("\\", "").split()
