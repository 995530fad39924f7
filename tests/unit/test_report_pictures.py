"""Pictures for documents: a long legend takes room of its own, and not that of the plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namm_mm.report import pictures


def drawn(file: Path, curves: int) -> int:
    """Height of the picture in pixels."""
    traces: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "name": f"policy {n}", "x": [0, 1], "y": [0, n]}
        for n in range(curves)
    ]
    titles = {"xaxis": {"title": {"text": "bytes"}}, "yaxis": {"title": {"text": "score"}}}
    pictures.plot({"data": traces, "layout": titles}, file)
    with Image.open(file) as picture:
        return picture.height


@pytest.mark.skipif(not pictures.available(), reason="needs matplotlib")
def test_a_page_grows_with_its_legend(tmp_path: Path) -> None:
    few, many = drawn(tmp_path / "few.png", 3), drawn(tmp_path / "many.png", 60)
    assert few == pytest.approx(4.0 * 110, abs=2)
    assert many > few + 200
