"""A slice of ``make campaign``, and that the campaign sees what is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from campaign import kills, payloads, replays, wrong_inputs
from campaign.__main__ import TRIALS, main, table
from campaign.base import Attempt, Setting, Trial, measure
from namm_mm.memory.store import SharedStore

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


@pytest.fixture
def setting(tiny: Path, tmp_path: Path) -> Setting:
    return Setting(tiny, tmp_path, 12, 1)


@pytest.mark.parametrize("name", ["replays", "batches"])
def test_evictions_are_right(name: str, setting: Setting) -> None:
    figure = measure(TRIALS[name], setting)
    assert (figure.tried, figure.wrong) == (12, ())


def test_wrong_words_get_a_message(tiny: Path, tmp_path: Path) -> None:
    figure = measure(TRIALS["wrong-inputs"], Setting(tiny, tmp_path, 40, 1))
    assert (figure.tried, figure.wrong) == (40, ())


def test_a_broken_memory_is_seen(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SharedStore.keep

    def keep(self: SharedStore, *given: object) -> None:
        whole(self, *given)  # type: ignore[arg-type]
        self._keys = self._keys.flip(1)

    monkeypatch.setattr(SharedStore, "keep", keep)
    assert measure(Trial("broken", 12, replays.run), setting).wrong


def test_lost_and_changed_records_are_seen() -> None:
    before = {"a": "1", "b": "2"}
    assert kills._lost(before, before) == ""
    assert kills._lost(before, {"a": "3"}) == "1 lost, 1 changed"
    assert "1 missing, 1 too many, 1 other" in kills._differences({"a": "3", "c": ""}, before)


def test_a_command_that_runs_is_no_wrong_input(setting: Setting) -> None:
    assert wrong_inputs.judge(["list"], setting) == "exit code 0"


def test_code_that_runs_in_a_page_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<p>{payloads.PAYLOADS[0]}</p>")
    assert payloads._judge(page) in ("its code ran", "no browser: apt-get install chromium")


def test_the_table_counts_and_the_exit_code_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(setting: Setting) -> Iterator[Attempt]:
        for number in range(setting.count):
            yield Attempt(f"{number}", "off" if number == 1 else "")

    monkeypatch.setitem(TRIALS, "replays", Trial("a trial", 4, run))
    assert main(["replays", "--part", "0.25"]) == 0
    assert main(["replays"]) == 1
    assert "| a trial | 4 | 1 | 0.0 |" in capsys.readouterr().out
    assert table([], 0).endswith("| --- | --- | --- | --- |")
