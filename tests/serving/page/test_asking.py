"""What is asked for again, and where the focus is afterwards."""

# ruff: noqa: F401, F811 - fixtures are imported by name
from collections.abc import Iterator
from typing import Any

import pytest
from looking import browser, card, ids, look, page, search, service, shown, until, world

FOCUSED = "document.activeElement.closest('hit-card')?.hit.item_id"


class Searches:
    """The searches of a page, whose answers name `revision`."""

    def __init__(self, page: Any):
        self.texts: list[str] = []
        self.revision = 0
        page.route("**/api/search", self.answer)

    def answer(self, route: Any) -> None:
        self.texts.append(route.request.post_data_json["query"]["text"])
        answer = route.fetch()
        body = answer.json()
        body["catalogue"]["revision"] = self.revision
        route.fulfill(response=answer, json=body)


def again(page: Any, searches: Searches, act: Any) -> None:
    """Do something that searches, and wait for the answer."""
    before = len(searches.texts)
    with page.expect_response("**/api/search"):
        act()
    assert len(searches.texts) == before + 1
    shown(page)


def test_enter_and_the_button_ask_again_and_back_does_not(page: Any):
    searches = Searches(page)
    page.goto("/")
    for text in ("blue", "green", "blue"):
        page.fill("#query", text)
        again(page, searches, lambda: page.keyboard.press("Enter"))
    again(page, searches, lambda: page.keyboard.press("Enter"))
    again(page, searches, lambda: page.get_by_role("button", name="Search", exact=True).click())
    assert searches.texts == ["blue", "green", "blue", "blue", "blue"]
    page.get_by_label("Order", exact=True).select_option("year")
    page.go_back()
    page.go_back()
    until(page, "document.querySelector('#query').value === 'green'")
    shown(page)
    assert len(searches.texts) == 5


def test_back_asks_again_after_an_update_of_the_catalogue(page: Any):
    searches = Searches(page)
    page.goto("/")
    search(page, "blue")
    searches.revision = 1
    page.fill("#query", "green")
    again(page, searches, lambda: page.keyboard.press("Enter"))
    again(page, searches, page.go_back)
    assert searches.texts == ["blue", "green", "blue"]
    page.go_forward()
    until(page, "document.querySelector('#query').value === 'green'")
    shown(page)
    assert len(searches.texts) == 3


def test_the_focus_goes_to_the_first_of_the_new_hits(page: Any):
    page.goto("/?q=sea")
    shown(page)
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    for number, key in enumerate("+--", start=1):
        with page.expect_response("**/api/search"):
            page.keyboard.press(key)
        until(page, f"document.querySelectorAll('.chips .chip').length === {number}")
        until(page, f"{FOCUSED} !== undefined")
        first = shown(page)[0]
        assert page.evaluate(FOCUSED) == first
        page.keyboard.press("ArrowRight")
        assert page.evaluate(FOCUSED) == ids(page)[1]
        page.keyboard.press("ArrowLeft")


def test_the_focus_stays_in_the_box_if_a_search_begins_there(page: Any):
    page.goto("/?q=sea")
    shown(page)
    search(page, "dusk")
    assert page.evaluate("document.activeElement.id") == "query"


def test_the_focus_goes_to_the_first_hit_after_grey_cards(page: Any):
    page.goto("/?q=sea")
    shown(page)
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    waiting: list[Any] = []
    page.route("**/api/search", lambda route: waiting.append(route), times=1)
    page.keyboard.press("+")
    page.locator(".skeleton").first.wait_for()
    waiting[0].continue_()
    first = shown(page)[0]
    until(page, f"{FOCUSED} !== undefined")
    assert page.evaluate(FOCUSED) == first
