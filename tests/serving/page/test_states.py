"""Each state of the page has its own sight: begin, empty, slow, busy, failed, refused, a token is needed; and axe finds nothing."""

# ruff: noqa: F401, F811 - fixtures are imported by name
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from looking import DOUBTFUL, LOOKS, browser, ids, in_each_look, look, page, search, service, shown, until, world
from page_world import serving, serving_examples

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
TOKEN = "a token of enough characters"


def reply(status: int, **headers: str) -> Callable[[Any], None]:
    """Answer a request with an error of the service."""
    error = {"error": {"field": "query", "found": "too long", "remedy": "send less"}}
    return lambda route: route.fulfill(
        status=status, headers=headers, body=json.dumps(error), content_type="application/json"
    )


def state(page: Any, name: str) -> Any:
    """Wait for a state."""
    found = page.locator(f"search-state[data-state={name}]")
    found.wait_for()
    return found


def refuse_once(page: Any, answer: Callable[[Any], None]) -> Any:
    """Answer the next search with an error."""
    return page.route("**/api/search", answer, times=1)


@pytest.fixture(scope="module")
def locked(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that asks for a token, has no dense head and no probability."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with serving(world, token_file=file, dense_dim=0) as (address, _):
        yield address


@pytest.fixture(scope="module")
def doubtful(world: Path) -> Iterator[str]:
    """The address of a service whose searches probably find nothing that fits, with at most 7 hits."""
    with serving(world, DOUBTFUL, max_k=7) as (address, _):
        yield address


@pytest.fixture(scope="module")
def untrained(world: Path) -> Iterator[str]:
    """The address of a service without a model."""
    with serving_examples(world) as address:
        yield address


def test_without_a_model_the_page_begins_with_items_and_says_why(page: Any, untrained: str):
    page.goto(untrained)
    assert len(shown(page)) == 41
    assert "Or begin with one of these." in page.inner_text("search-state")
    assert page.locator("#query").is_disabled()
    assert "Nothing was trained to read texts" in page.inner_text("search-box")
    card = page.locator("hit-card").first
    card.hover()
    card.get_by_role("button", name="More like").click()
    page.wait_for_url("**/?more=*")
    page.get_by_text("30 hits").wait_for()
    page.locator(".switch").click()
    assert "picture 0 again" in ids(page)[:3]
    page.go_back()
    page.go_back()
    until(page, "document.querySelectorAll('hit-card').length === 41")
    page.locator("hit-card").first.get_by_role("button", name="Open").click()
    assert "score" not in page.locator("hit-details").inner_text()


def test_a_full_service_is_asked_again_after_a_countdown(page: Any):
    page.clock.install()
    page.goto("/")
    until(page, "document.querySelector('search-state[data-state=begin]')")
    page.clock.pause_at("2100-01-01")  # the countdown waits for the test, however slow the machine is
    refuse_once(page, reply(429, **{"retry-after": "2"}))
    page.fill("#query", "sea")
    page.keyboard.press("Enter")
    assert "Trying again in 2 seconds" in state(page, "busy").inner_text()
    page.clock.run_for(1200)
    assert "Trying again in 1 second." in state(page, "busy").inner_text()
    page.clock.resume()
    assert shown(page)
    assert not page.locator("search-state").is_visible()


def test_a_service_that_is_away_or_fails_is_asked_again(page: Any):
    page.goto("/")
    refuse_once(page, lambda route: route.abort())
    page.fill("#query", "sea")
    page.keyboard.press("Enter")
    assert "does not answer" in state(page, "failed").inner_text()
    page.get_by_role("button", name="Try again").click()
    shown(page)
    refuse_once(page, reply(500))
    page.fill("#query", "dusk")
    page.keyboard.press("Enter")
    assert "The service failed" in state(page, "failed").inner_text()
    page.get_by_role("button", name="Try again").click()
    shown(page)
    refuse_once(page, reply(422))
    page.fill("#query", "noon")
    page.keyboard.press("Enter")
    assert "query: too long. Send less." in state(page, "wrong").inner_text()


def test_a_slow_search_shows_grey_cards_and_can_be_stopped(page: Any):
    page.goto("/")
    refuse_once(page, lambda route: None)
    page.fill("#query", "sea")
    page.keyboard.press("Enter")
    page.locator(".skeleton").first.wait_for()
    state(page, "slow")
    page.get_by_role("button", name="Stop").click()
    state(page, "stopped")
    page.get_by_role("button", name="Search again").click()
    assert shown(page)


def test_nothing_fits_the_filters(page: Any):
    page.goto("/?q=sea&f.modality=audio&f.year=1900")
    assert "No item fits these filters" in state(page, "nothing").inner_text()
    page.get_by_role("button", name="Clear the filters").click()
    assert len(shown(page)) > 20


def test_less_like_alone_asks_for_more(page: Any):
    page.goto("/?less=picture+3")
    state(page, "only-less")
    search(page, "sea")
    assert "picture 3" not in ids(page)


def test_a_file_of_another_browser_is_missed(page: Any):
    page.goto("/?file=elsewhere")
    assert state(page, "lost").is_visible()


def test_files_that_cannot_be_queries_are_refused_at_once(page: Any, tmp_path: Path):
    (tmp_path / "text.txt").write_text("no picture")
    page.goto("/")
    page.set_input_files("search-box input[type=file]", tmp_path / "text.txt")
    assert page.get_by_role("alert").inner_text() == "text.txt is no picture, sound or clip."


def test_a_token_is_asked_for_and_a_model_without_examples_says_why(browser: Any, locked: str):
    context = browser.new_context(base_url=locked)
    page = context.new_page()
    page.goto("/?q=sea")
    state(page, "token")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.get_by_text("This is not the token of this service.").wait_for()
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    assert shown(page)
    until(page, "[...document.querySelectorAll('hit-card img')].some((img) => img.naturalWidth)")  # by the cookie
    assert page.evaluate("sessionStorage.length") == 1
    assert "does not search with examples" in page.inner_text(".why")
    assert not page.get_by_label("Search with a picture, sound or clip").is_visible()
    assert page.locator(".like").count() == page.locator(".probability").count() == 0
    page.reload()
    assert shown(page)
    context.close()


def test_probably_nothing_fits_and_the_limit_of_hits(browser: Any, doubtful: str):
    context = browser.new_context(base_url=doubtful)
    page = context.new_page()
    page.goto("/?q=sea&fold=0")
    assert len(shown(page)) == 7
    assert page.locator("search-results li").first.inner_text().startswith("Probably nothing fits")
    assert "These are the best 7" in page.inner_text(".end")
    context.close()


def test_screen_readers_hear_what_happens(page: Any):
    page.goto("/?q=sea")
    shown(page)
    assert page.get_by_role("status").inner_text().startswith("30 hits")
    assert page.get_by_role("search").get_by_role("searchbox", name="Search text").is_visible()
    assert page.get_by_role("list", name="Results").get_by_role("listitem").count() >= 28


SIGHTS: dict[str, Callable[[Any], Any]] = {
    "begin": lambda page: page.goto("/"),
    "results": lambda page: (page.goto("/?q=sea&f.year=2016&more=picture+3&less=clip+1"), shown(page)),
    "probable": lambda page: (page.goto("/?q=sea"), shown(page)),
    "filters": lambda page: (page.goto("/?q=sea"), shown(page), page.get_by_role("button", name="Filters").click()),
    "details": lambda page: (
        page.goto("/?q=sea"),
        shown(page),
        page.locator(".open").first.click(position={"x": 20, "y": 60}),
    ),
    "nothing": lambda page: (page.goto("/?q=sea&f.year=1900"), state(page, "nothing")),
    "busy": lambda page: (
        refuse_once(page, reply(429, **{"retry-after": "9"})),
        page.goto("/?q=sea"),
        state(page, "busy"),
    ),
    "failed": lambda page: (refuse_once(page, reply(500)), page.goto("/?q=sea"), state(page, "failed")),
}


@in_each_look
def test_axe_finds_no_violation(page: Any, look: str):
    page.emulate_media(color_scheme=LOOKS[look]["color_scheme"], reduced_motion="reduce")
    for name, see in SIGHTS.items():
        see(page)
        page.wait_for_load_state("networkidle")
        found = axe.Axe().run(page)
        said = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found.response["violations"]]
        assert not said, (name, said)
