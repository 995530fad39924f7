"""The notebooks of `examples/` run as they stand, on a tiny language model, and show what is so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import plotly.io
import pytest
import text_checkpoints

EXAMPLES = Path(__file__).parents[2] / "examples"
BOOKS: dict[str, Any] = {
    book.stem: nbformat.reads(book.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    for book in EXAMPLES.glob("*.ipynb")
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny language model; the working folder is empty."""
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plotly.io.renderers, "default", "")  # a figure is made and not displayed
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return text_checkpoints.save(tmp_path / "my-model", max_position_embeddings=4096)


def run(name: str, **parameters: object) -> dict[str, Any]:
    """Run the code cells as Jupyter would, with other parameters, and return all names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in BOOKS[name].cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, {cell.id}", "exec", dont_inherit=True), names)
        if "parameters" in cell.metadata.get("tags", ()):
            assert parameters.keys() <= names.keys()
            names |= parameters
    return names


@pytest.mark.slow
def test_the_notebook_of_a_transfer_runs_three_modalities_at_equal_tokens(model: str) -> None:
    names = run("transfer", TEXT=model, WORDS=100, STEPS=40, SAMPLES=1)
    records = names["outcome"].records
    assert [record.error for record in records] == [""] * 12
    kept: dict[str, dict[str, float]] = {}
    for record in records:
        kept.setdefault(record.task, {})[record.policy] = record.memory.kept_fraction or 0.0
    assert set(kept) == {"long_text", "video_qa", "offline_rl"}
    for found in kept.values():
        assert found.pop("full") == 1
        assert max(found.values()) < 1
        assert min(found.values()) == pytest.approx(max(found.values()), rel=0.02)
    assert (names["outcome"].folder / "report.html").is_file()


@pytest.mark.slow
def test_the_notebook_of_a_memory_shows_what_the_heads_hold(model: str) -> None:
    names = run("look_inside_a_memory", MODEL=model, WORDS=100)
    history, held, sizes = (names[name] for name in ("history", "held", "sizes"))
    assert len(history) > 1
    assert np.nanmin(history) >= 0
    assert np.nanmax(history) <= 1
    known = ~np.isnan(history[:-1])
    assert (np.diff(history, axis=0)[known] <= 1e-9).all()  # what is forgotten never comes back
    assert 0 < np.nanmean(history[-1]) < 1
    end = names["updates"][-1].seen
    in_memory = [head < end for layer in range(2) for head in names["memory"].kept(layer)]
    assert held[:end].sum() * len(in_memory) == pytest.approx(sum(map(int, map(sum, in_memory))))
    assert np.mean(sizes) == pytest.approx(names["use"].tokens_final)
    assert names["coloured"](held).plain == "".join(names["tokens"])


@pytest.mark.slow
def test_the_notebook_of_an_own_model_compares_at_equal_bytes(model: str) -> None:
    names = run("your_own_model", MODEL=model, WORDS=100, SAMPLES=1)
    rows = {name: found[0] for name, found in names["results"].items()}
    whole = rows.pop("full")
    asked = {"probed": "probed(namm)"}  # a policy on top of another is named after both
    assert set(rows) == {*(asked.get(name, name) for name in names["names"]), "per_age"}
    for _, _, kept, size in rows.values():
        assert kept < 1
        assert size < 0.6 * whole[3]
    sizes = [row[3] for row in rows.values()]
    assert max(sizes) < 1.15 * min(sizes)
    assert rows["namm"][2] < 0.9 * rows["random"][2]  # it remembers numbers of each token


@pytest.mark.parametrize("name", BOOKS)
def test_a_notebook_is_stored_without_outputs(name: str) -> None:
    nbformat.validate(BOOKS[name])
    code = [cell for cell in BOOKS[name].cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
