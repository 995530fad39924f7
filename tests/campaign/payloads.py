"""Hostile text in every field of a record: the report shows it, and runs none of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from synthetic_records import PROVENANCE, make_records

from namm_mm import report
from namm_mm.records import Asked, Record
from namm_mm.runs import LocalTracker, RunInfo

from .base import Attempt, Setting

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAYLOADS = (
    "</script><script>hacked=1</script>",
    "<img src=x onerror=hacked=1>",
    "<svg onload=hacked=1>",
    "\"><body onload='hacked=1'>",
    "javascript:hacked=1//",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<!--<script>hacked=1//-->",
    "${hacked=1}{{hacked=1}}\u2028\u202e\ud83d<a href='data:text/html,<script>1</script>'>",
)


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield one payload after another, opened in a browser where there is one."""
    for number, payload in enumerate(PAYLOADS[: setting.count]):
        folder = setting.folder / str(number)
        info = RunInfo(
            f"pocket {payload}", "transfer", {"x": payload}, PROVENANCE, notes=(payload,)
        )
        with LocalTracker(folder, info) as tracker:
            for record in make_records(2):
                tracker.record(_poisoned(record, payload))
        yield Attempt(f"payload {number}", _judge(report.render([folder])))


def _poisoned(record: Record, payload: str) -> Record:
    asked = Asked(payload, (payload, payload), payload)
    return dataclasses.replace(
        record,
        sample=record.sample + payload,
        family=record.family + payload,
        answer=payload,
        asked=asked,
        error=payload if record.sample == "s001" and record.policy == "l2" else "",
        value=None if record.sample == "s001" and record.policy == "l2" else record.value,
    )


def _judge(page: Path) -> str:
    """Return whether code of the payload ran, or anything was asked of the network."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        return "no browser: apt-get install chromium"
    from playwright.sync_api import sync_playwright

    requests: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("dialog", lambda dialog: requests.append(f"dialog {dialog.message}"))
        opened.goto(page.as_uri())
        ran = opened.evaluate("typeof hacked !== 'undefined'")
        frames, broken = len(opened.frames), opened.locator("img:not([src^='data:'])").count()
        browser.close()
    if ran:
        return "its code ran"
    strange = [url for url in requests if url != page.as_uri() and not url.startswith("data:")]
    if strange or frames > 1 or broken:
        return f"requests {strange}, {frames} frames, {broken} foreign pictures"
    return ""
