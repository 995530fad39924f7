"""Open the report in headless Chromium: read, sort, switch the theme; no error, no request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import report_pages
from report_pages import TIMEOUT
from synthetic_records import PROVENANCE, make_history, make_records, with_histories

from namm_mm import report
from namm_mm.runs import RunInfo, read_records
from namm_mm.tracking import open_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with report_pages.browser() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_pages.save_report(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def problems() -> list[str]:
    return []


@pytest.fixture(scope="module")
def opened(browser: Browser, file: Path, problems: list[str]) -> Page:
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
    page.set_default_timeout(TIMEOUT)
    report_pages.listen(page, problems)
    page.goto(file.as_uri())
    assert problems == [f"request: {file.as_uri()}"]
    problems.clear()
    return page


@pytest.fixture
def page(opened: Page, problems: list[str]) -> Iterator[Page]:
    """The open report; any request, error or warning fails the test in which it comes."""
    yield opened
    assert problems == []


def keys(page: Page, column: int) -> list[float]:
    cells = page.locator(f"#results table >> nth=0 >> tbody td:nth-child({column})")
    return [float(cell.get_attribute("data-key") or "nan") for cell in cells.all()]


def test_a_heading_sorts_by_mouse_and_by_keyboard(page: Page) -> None:
    heading = page.locator("#results table >> nth=0 >> th:nth-child(3)")
    before = keys(page, 3)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert keys(page, 3) == sorted(before)
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert keys(page, 3) == sorted(before, reverse=True)


def test_every_figure_is_drawn_when_it_comes_near(page: Page) -> None:
    plots = page.locator(".plot").all()
    assert len(plots) == 3 + 4
    assert page.locator(".plot .main-svg").count() < 3 * len(plots)
    for plot in plots:
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
        assert plot.get_attribute("aria-label")
    assert page.locator(".plot .traces, .plot .hm, .plot .trace").count() >= len(plots)


def test_a_slider_steps_through_samples_by_keyboard(page: Page) -> None:
    viewer = page.locator(".samples")
    viewer.scroll_into_view_if_needed()
    viewer.locator(".main-svg").first.wait_for()
    strip, name = viewer.locator(".strip"), viewer.locator("output")
    first = strip.get_attribute("aria-label"), name.text_content()
    assert "1 of 8" in (first[1] or "")
    viewer.locator("input").focus()
    page.keyboard.press("ArrowRight")
    second = strip.get_attribute("aria-label"), name.text_content()
    assert "2 of 8" in (second[1] or "")
    assert page.evaluate("document.querySelector('.strip').data[0].z.length") == 5
    viewer.locator(".tiles i").nth(5 * 8 - 1).wait_for()
    page.keyboard.press("End")
    assert "8 of 8" in (name.text_content() or "")
    assert "h2o match:namm" in (viewer.locator("dl").text_content() or "")


def test_the_theme_follows_the_system_and_the_button(page: Page) -> None:
    def colours() -> tuple[str, str]:
        plot = page.locator(".plot").first
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
        return (
            page.evaluate("getComputedStyle(document.body).color"),
            page.evaluate("document.querySelector('.plot').layout.font.color"),
        )

    light = colours()
    page.locator("#theme").click()
    changed = "old => document.querySelector('.plot').layout.font.color !== old"
    page.wait_for_function(changed, arg=light[1])
    dark = colours()
    assert all(a != b for a, b in zip(light, dark, strict=True))
    page.evaluate("delete document.documentElement.dataset.theme")
    page.emulate_media(color_scheme="dark")
    assert colours() == dark


def test_paper_is_light_and_the_screen_as_it_was(page: Page) -> None:
    text = "getComputedStyle(document.body).color"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(text)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(text) == "rgb(28, 32, 36)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(text) == dark != "rgb(28, 32, 36)"


def test_a_phone_scrolls_tables_and_says_so(page: Page) -> None:
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_timeout(300)
    hint = page.locator("#results .hint").first
    assert not hint.is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    # plots follow the width of the page a moment later
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#results .scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert hint.is_visible()
    first = page.locator("#results tbody td").first  # the policy stays while numbers scroll
    before = first.bounding_box()
    box.evaluate("box => { box.scrollLeft = 150 }")
    assert first.bounding_box() == before


def test_results_come_before_notes_and_a_heading_before_its_sentence(page: Page) -> None:
    order = page.evaluate(
        "[...document.querySelectorAll('h2, h3, #results .table p, table')]"
        ".map(one => [one.tagName, one.textContent.slice(0, 20)])"
    )
    assert [tag for tag, _ in order[:4]] == ["H2", "H3", "P", "TABLE"]
    assert order[0][1] == "Results"
    assert order[2][1].startswith("NAMM keeps")


def test_points_stand_at_their_true_bytes(page: Page, file: Path) -> None:
    plot = page.locator("#results .plot").first
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()
    drawn = plot.evaluate("box => box.data.flatMap(trace => trace.x)")
    records = [r for r in read_records(file.parent)[0] if r.task == "long_text" and r.memory]
    for policy in ("full", "namm", "l2"):
        sizes = [r.memory.bytes_final / 1024 for r in records if r.policy == policy and r.memory]
        mean = sum(sizes) / len(sizes)
        assert min(abs(x - mean) for x in drawn) < 1e-6 * mean


def test_paper_has_whole_charts_and_no_table_head_alone(
    browser: Browser, file: Path, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(TIMEOUT)
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    charts = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(box => [box.layout.width, box.layout.height,"
        " box.clientHeight, box.closest('.chart').clientHeight,"
        " getComputedStyle(box.closest('.chart')).breakInside])"
    )
    assert len(charts) == 7
    for width, height, space, figure, breaks in charts:
        assert width <= 700  # A4 and Letter are 718 pixels wide without margins of 12 mm
        assert height <= space + 1
        assert figure < 900
        assert breaks == "avoid"
    heads = page.evaluate(
        "[...document.querySelectorAll('thead')].map(one => getComputedStyle(one).display)"
    )
    assert set(heads) == {"table-row-group"}  # not repeated, and never alone:
    tables = page.evaluate(
        "[...document.querySelectorAll('.table')].map(one => getComputedStyle(one).breakInside)"
    )
    assert set(tables) == {"avoid"}
    for query in (".listing", ".histories", "nav", "details"):
        assert not page.locator(query).first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    paper = page.pdf(format="A4", prefer_css_page_size=True)
    assert 1 < len(re.findall(rb"/Type\s*/Page[^s]", paper)) <= 8
    page.close()


def test_the_numbers_of_a_figure_open_as_a_table(page: Page) -> None:
    details = page.locator("details").first
    assert not details.locator("table").is_visible()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.locator("table").is_visible()


@pytest.fixture(scope="module")
def looked(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A report on samples that were watched closely: text, video and control."""
    folder = tmp_path_factory.mktemp("watched")
    info = RunInfo("pocket", "transfer", {}, PROVENANCE)
    with open_run(folder, info, wandb_mode="disabled") as tracker:
        for record in with_histories(make_records(2), folder, ("s000", "s001")):
            tracker.record(record)
    problems: list[str] = []
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.set_default_timeout(TIMEOUT)
    report_pages.listen(page, problems)
    page.goto(report.render([folder]).as_uri())
    yield page
    assert [problem for problem in problems if not problem.endswith("/report.html")] == []


def viewer_of(page: Page, place: int) -> Locator:
    viewer = page.locator(".histories").nth(place)
    viewer.scroll_into_view_if_needed()
    viewer.locator(".stage > *").first.wait_for()
    return viewer


def test_words_that_no_head_holds_are_struck_through(looked: Page) -> None:
    viewer = viewer_of(looked, 0)
    history = make_history("long_text")
    viewer.get_by_label("Layer").fill("2")
    viewer.get_by_label("Head").fill("1")
    held = history.kept(None, 1, 0)
    expected = "".join(f" w{token}" for token in range(60) if held[token] == 0)
    looked.wait_for_function(
        "want => want === "
        "[...document.querySelectorAll('.histories s')].map(s => s.textContent).join('')",
        arg=expected,
    )
    assert "in layer 1, head 0" in (viewer.locator(".now").text_content() or "")


def test_frames_follow_time_and_policy_by_keyboard(looked: Page) -> None:
    viewer = viewer_of(looked, 1)
    assert viewer.locator("canvas").count() == 8
    end = viewer.locator(".frames").get_attribute("aria-label")
    viewer.get_by_label("Time").focus()
    looked.keyboard.press("Home")
    viewer.locator("text=not yet").first.wait_for()
    early = viewer.locator(".frames").get_attribute("aria-label") or ""
    assert early != end
    assert "frame 7 not seen yet" in early
    history = make_history("video_qa")
    first = history.of_kind("frame", history.kept(0))[0]
    assert f"frame 0 {round(100 * first.mean())} % kept" in early
    viewer.get_by_label("Policy").select_option("full")
    viewer.locator("text=0: 100 %").first.wait_for()
    assert viewer.get_by_label("Time").is_disabled()
    viewer.get_by_label("Sample").select_option(index=1)
    assert "colour / order" not in (viewer.locator("dl").text_content() or "")


def test_an_episode_is_a_timeline_with_its_return(looked: Page) -> None:
    viewer = viewer_of(looked, 2)
    viewer.locator(".main-svg").first.wait_for()
    label = viewer.locator(".steps").get_attribute("aria-label") or ""
    assert "At step 19" in label
    assert "return so far 190" in label
    rows = looked.evaluate("document.querySelectorAll('.steps')[0].data[0].y")
    assert rows == ["return", "state", "action"]
    viewer.get_by_label("Time").fill("0")
    looked.wait_for_function(
        "document.querySelectorAll('.steps')[0].getAttribute('aria-label').startsWith('At step 6')"
    )


def test_every_control_of_a_viewer_has_a_name(looked: Page) -> None:
    for control in looked.locator(".controls input, .controls select").all():
        assert looked.evaluate("one => one.labels.length", control.element_handle()) == 1
