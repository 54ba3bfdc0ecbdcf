"""Fixtures of the page's tests: the service, the browser, and a page in each look."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_world import serving, write_world

from cart_fairseq.search.calibration import Calibration

playwright = pytest.importorskip("playwright.sync_api", reason="the page is not tested without playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 850}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 850}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 2,
    },
}
LIKELY = Calibration(slope=0.25, peak=0.25, offset=3.0, gain=0.0, size=0.0, scoring="masked")
"""Something fits with 95 %, and the best hits share it."""
DOUBTFUL = LIKELY._replace(offset=-1.5)


WORLDS: list[Path] = []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data-bin of the page's world, which is made once in a process."""
    if not WORLDS:
        WORLDS.append(write_world(tmp_path_factory.mktemp("page")))
    return WORLDS[0]


@pytest.fixture(scope="module")
def service(world: Path) -> Iterator[str]:
    """The address of the service."""
    with serving(world, LIKELY) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium."""
    if CHROMIUM is None:
        pytest.skip("the page is not tested without chromium; apt-get install chromium")
    with playwright.sync_playwright() as started:
        own = started.chromium.launch(
            timeout=120_000,
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield own
        own.close()


@pytest.fixture
def look(request: pytest.FixtureRequest) -> str:
    """The name of a look; light unless a test is marked with :data:`in_each_look`."""
    return getattr(request, "param", "light")


in_each_look = pytest.mark.parametrize("look", [*LOOKS], indirect=True)


@pytest.fixture
def page(browser: Any, look: str, service: str) -> Iterator[Any]:
    """A new page of the service in a look; it fails on errors of scripts and on what the policy of content blocks."""
    context = browser.new_context(base_url=service, **LOOKS[look])
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    own = context.new_page()
    wrong: list[str] = []
    own.on("pageerror", lambda error: wrong.append(str(error)))
    own.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    own.set_default_timeout(30_000)
    yield own
    context.close()
    assert not wrong, wrong


def until(page: Any, condition: str) -> None:
    """Wait until JavaScript is true. (Playwright's own way needs `eval`, which the policy of content forbids.)"""
    end = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def search(page: Any, text: str) -> None:
    """Search for a text as a person does."""
    page.fill("#query", text)
    page.keyboard.press("Enter")
    shown(page)


def shown(page: Any) -> list[str]:
    """Wait until results are there; return the ids in their order."""
    page.wait_for_selector("search-results ul:not([aria-busy]) hit-card")
    return ids(page)


def ids(page: Any) -> list[str]:
    """The ids of the shown hits."""
    found: list[str] = page.eval_on_selector_all("hit-card", "cards => cards.map((card) => card.hit.item_id)")
    return found


def card(page: Any, item_id: str) -> Any:
    """The card of a hit, scrolled to."""
    place = ids(page).index(item_id)
    found = page.locator("hit-card").nth(place)
    found.scroll_into_view_if_needed()
    return found
