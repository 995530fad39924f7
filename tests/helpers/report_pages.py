"""A report of synthetic records, a browser that opens it, and what the page complains of."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from synthetic_records import PROVENANCE, make_records

from namm_mm import report
from namm_mm.records import Inputs, Media, Sample
from namm_mm.runs import RunInfo
from namm_mm.runs.pictures import save_frames
from namm_mm.tracking import open_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 180_000
"""Milliseconds: a busy machine may take a minute to read five megabytes of script."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a headless browser; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def save_report(folder: Path) -> Path:
    """Write a run of texts and videos, one with frames, and return its report."""
    info = RunInfo("pocket", "transfer", {}, PROVENANCE)
    with open_run(folder, info, wandb_mode="disabled") as tracker:
        frames = torch.linspace(-1, 1, 8).reshape(1, 8, 1, 1, 1).expand(1, 8, 3, 24, 24)
        sample = Sample("s000", "colour")
        inputs = Inputs({"pixel_values_videos": frames}, (), sample)
        media = Media(frames=save_frames(folder, "video", inputs))
        for record in make_records(8):
            if record.task == "video_qa":
                record = dataclasses.replace(record, media=media)
            if record.task != "offline_rl":
                tracker.record(record)
    return report.render([folder])


def listen(page: Page, problems: list[str]) -> None:
    """Note in `problems` every request, error and printed line of `page`."""
    page.on("console", lambda said: problems.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda request: problems.append(f"request: {request.url}"))
