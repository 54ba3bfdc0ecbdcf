"""What the page offers: filters in a useful order, files that it cannot show, words of errors, Escape, labels on phones."""

# ruff: noqa: F401, F811 - fixtures are imported by name
import re
from pathlib import Path
from typing import Any

import pytest
from looking import browser, in_each_look, look, page, search, service, shown, until, world


def test_facets_of_most_items_come_first_and_distinct_values_not_at_all(page: Any):
    fields: dict[str, dict[Any, int]] = {
        "camera": {"A": 2, "B": 2},
        "bytes": dict.fromkeys(range(40), 1),
        "year": {2015: 20, 2016: 21},
        "folder": dict.fromkeys("abcdefg", 4),
        "modality": {"image": 30, "audio": 11},
    }
    shown_fields = [
        {"field": name, "kinds": [], "values": [{"value": value, "count": count} for value, count in values.items()]}
        for name, values in fields.items()
    ]
    body = {"catalogue": {"items": 41, "revision": 0}, "fields": shown_fields, "left_out": []}
    page.route("**/api/facets", lambda route: route.fulfill(json=body))
    page.goto("/?q=sea")
    shown(page)
    page.get_by_role("button", name="Filters").click()
    names = page.eval_on_selector_all(".fields details", "all => all.map((each) => each.facet)")
    assert names == ["modality", "folder", "year", "camera"]


def test_escape_goes_from_a_hit_to_the_box_and_empties_it(page: Any):
    page.goto("/")
    assert "Esc to the box, or empty it" in page.inner_text(".keys")
    search(page, "sea")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"
    assert page.input_value("#query") == "sea"
    page.keyboard.press("Escape")
    assert page.input_value("#query") == ""
    assert shown(page)


def test_a_file_that_cannot_be_shown_is_named_and_offered(page: Any):
    def answer(route: Any) -> None:
        response = route.fetch()
        body = response.json()
        body["results"][0]["hits"][0]["record"]["media"] = "scan.tif"
        route.fulfill(response=response, json=body)

    page.route("**/api/search", answer)
    page.route(
        re.compile(r"^http://[^/]+/media/"), lambda route: route.fulfill(body=b"II*\0", content_type="image/tiff")
    )
    page.goto("/?q=sea&f.modality=image")
    shown(page)
    link = page.locator("hit-card").first.get_by_role("link", name="TIFF: open the file")
    with page.expect_popup() as opened:
        link.click()
    assert opened.value


def test_a_broken_file_as_query_is_refused_in_words_for_its_owner(page: Any, world: Path, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes((world.parent / "media" / "3.jpg").read_bytes()[:300])
    page.goto("/")
    page.set_input_files("search-box input[type=file]", tmp_path / "broken.jpg")
    said = page.locator("search-state[data-state=wrong]").inner_text()
    assert "Your file is neither a picture nor a sound nor a video that can be read." in said
    assert "Send another file." in said
    assert "leave the item out" not in said


@in_each_look
def test_the_fold_switch_has_a_label(page: Any):
    page.goto("/?q=sea")
    shown(page)
    label = page.locator(".fold-label")
    assert label.evaluate(
        "each => each.getBoundingClientRect().width > 20 && getComputedStyle(each).fontSize !== '0px'"
    )
    assert page.get_by_role("switch", name="Fold duplicates").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
