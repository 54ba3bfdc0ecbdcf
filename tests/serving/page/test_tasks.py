"""What people do on the page, as they do it, in light, dark and phone size."""

# ruff: noqa: F401, F811 - fixtures are imported by name
import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from looking import browser, card, ids, in_each_look, look, page, search, service, shown, until, world
from page_world import LONG, TWINS

pytestmark = in_each_look
TEXT = "woods at dusk"


def test_a_text_finds_pictures_sounds_and_clips(page: Any):
    page.goto("/")
    assert "41 items" in page.inner_text("main")
    search(page, TEXT)
    assert "q=woods" in page.url
    assert page.title().startswith(f"“{TEXT}”")
    until(page, "document.querySelectorAll('hit-card img').length > 2")
    alts = page.eval_on_selector_all("hit-card img", "each => each.map((img) => img.alt)")
    assert all(alt and alt[0].isupper() for alt in alts)
    assert re.match(r"30 hits(, \d folded)?", page.inner_text(".said"))


def test_back_and_forward_follow_the_address(page: Any):
    page.goto("/?q=sea&fold=0")
    first = shown(page)
    search(page, TEXT)
    second = ids(page)
    assert first != second
    page.mouse.wheel(0, 900)
    until(page, "scrollY > 100 && history.state?.y === scrollY")
    place = page.evaluate("scrollY")
    page.go_back()
    until(page, "document.querySelector('#query').value === 'sea'")
    assert shown(page)[: len(first)] == first
    page.go_forward()
    until(page, "document.querySelector('#query').value !== 'sea'")
    assert shown(page)[: len(second)] == second
    until(page, f"Math.abs(scrollY - {place}) < 3")
    page.go_back()
    page.go_back()
    page.wait_for_url("about:blank")


def test_a_sound_plays_and_seeks_and_only_one_plays(page: Any):
    page.goto("/?q=melody&f.modality=audio")
    sounds = [each for each in shown(page) if each.startswith("sound")]
    first, second = card(page, sounds[0]), card(page, sounds[1])
    first.locator(".play").click()
    until(
        page,
        "[...document.querySelectorAll('audio')].filter((each) => !each.paused && each.currentTime > 0).length === 1",
    )
    second.locator(".play").click()
    until(page, "[...document.querySelectorAll('audio')].filter((each) => !each.paused).length === 1")
    assert second.locator("audio").evaluate("each => !each.paused")
    second.locator(".seek").fill("2.5")
    until(page, "document.querySelectorAll('audio')[1].currentTime >= 2.4")
    assert "0:0" in second.locator(".time").inner_text()
    second.locator(".play").click()
    assert second.locator("audio").evaluate("each => each.paused")


def test_a_clip_has_a_poster_with_something_on_it_and_seeks(page: Any):
    page.goto("/?q=sun&f.modality=video")
    shown(page)
    clip = card(page, "clip 0")
    clip.locator(".poster").wait_for()
    colours = clip.locator(".poster").evaluate(
        "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    )
    assert colours > 50  # its first second is black
    clip.locator(".play").click()
    until(page, "[...document.querySelectorAll('video')].some((each) => each.currentTime > 0.1)")
    clip.locator(".seek").fill("2")
    until(page, "[...document.querySelectorAll('video')].some((each) => each.currentTime >= 1.9)")
    assert card(page, "clip 4").locator("img").evaluate("each => each.decode().then(() => each.naturalWidth)") == 320
    assert card(page, "old clip").locator(".failed").inner_text().startswith("This browser cannot play the clip")


def test_a_picture_is_the_query_by_the_button_by_drop_and_by_paste(page: Any, world: Path):
    picture = world.parent / "media" / "7.jpg"
    page.goto("/")
    with page.expect_file_chooser() as chooser:
        page.get_by_label("Search with a picture, sound or clip").click()
    chooser.value.set_files(picture)
    assert shown(page)[0] == "picture 7"
    assert "7.jpg" in page.inner_text(".chips")
    page.reload()
    assert shown(page)[0] == "picture 7"  # the browser has kept it
    page.get_by_label("Remove your file").click()
    page.locator("search-state[data-state=begin]").wait_for()
    for event in ("drop", "paste"):
        other = {"drop": "11", "paste": "15"}[event]
        page.evaluate(
            """async ([event, address]) => {
                const blob = await (await fetch(address)).blob();
                const data = new DataTransfer();
                data.items.add(new File([blob], "image.png", { type: blob.type }));
                const given = { bubbles: true, cancelable: true, [event === "drop" ? "dataTransfer" : "clipboardData"]: data };
                const own = event === "drop" ? new DragEvent("drop", given) : new ClipboardEvent("paste", given);
                document.body.dispatchEvent(own);
            }""",
            [event, f"/media/picture%20{other}"],
        )
        until(page, f"document.querySelector('hit-card')?.hit.item_id === 'picture {other}'")
        assert "Your picture" in page.inner_text(".chips")


@pytest.mark.parametrize("name", ["2.wav", "3.mp4"])
def test_a_sound_and_a_clip_are_queries_too(page: Any, world: Path, name: str):
    page.goto("/")
    page.set_input_files("search-box input[type=file]", world.parent / "media" / name)
    assert shown(page)[0] == {"2.wav": "sound 2", "3.mp4": "clip 3"}[name]


def test_more_and_less_like_this_are_chips_that_combine_with_a_text(page: Any):
    page.goto("/?q=sea")
    liked, other = [each for each in shown(page) if each.startswith("picture")][:2]
    with page.expect_request("**/api/search") as asked:
        card(page, liked).hover()
        card(page, liked).locator(".more").click()
    assert asked.value.post_data_json["query"] == {"text": "sea", "item_id": [liked], "weights": {"item_id": [1]}}
    assert liked not in shown(page)
    until(page, "!document.querySelector('.probability')")  # only a text has one
    with page.expect_request("**/api/search") as asked:
        card(page, other).hover()
        card(page, other).locator(".less").click()
    assert asked.value.post_data_json["query"]["weights"] == {"item_id": [1, -0.5]}
    assert page.locator(".chips .chip").count() == 2
    page.reload()
    shown(page)
    assert page.locator(".chips .chip").count() == 2
    page.get_by_label(f"Remove less like {other}").click()
    until(page, "document.querySelectorAll('.chips .chip').length === 1")
    assert other in shown(page)


def test_filters_come_from_the_facets(page: Any):
    page.goto("/?q=sea")
    shown(page)
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("dialog").get_by_text("audio").click()
    page.get_by_role("dialog").get_by_text("video").click()
    page.get_by_role("button", name="Done").click()
    until(page, "document.querySelectorAll('.applied .chip').length === 2")
    until(page, "[...document.querySelectorAll('hit-card')].every((card) => card.hit.record.modality !== 'image')")
    assert len(shown(page)) == 12
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("dialog").get_by_role("checkbox", name="2016").check()
    page.keyboard.press("Escape")
    until(page, "document.querySelectorAll('hit-card').length < 12")
    assert "f.year=2016" in page.url
    page.get_by_label("Remove the filter year: 2016").click()
    until(page, "document.querySelectorAll('hit-card').length === 12")


def test_hits_are_sorted_by_a_field_and_back(page: Any):
    page.goto("/?q=sea&fold=0")
    by_score = shown(page)
    page.get_by_label("Order", exact=True).select_option("year")
    years = page.eval_on_selector_all("hit-card", "cards => cards.map((card) => card.hit.record.year)")
    assert years == sorted(years)
    assert "by year" in page.inner_text(".said")
    page.get_by_label("Order: ascending").click()
    assert "sort=-year" in page.url
    page.get_by_label("Order", exact=True).select_option("")
    assert ids(page) == by_score


def test_near_duplicates_are_folded_and_unfolded(page: Any):
    page.goto("/?q=dusk&f.tags=woods&fold=0")
    assert {*TWINS} <= {*shown(page)}
    for twin in TWINS:
        card(page, twin)
    twins = "[...document.querySelectorAll('hit-card')].filter((card) => card.hit.item_id.startsWith('picture 0'))"
    until(page, f"{twins}.every((card) => card.view.thumbnail)")
    page.locator(".switch").click()
    assert "fold=0" not in page.url
    page.get_by_role("button", name="+ 2 alike").wait_for()
    found = ids(page)
    assert len({*found} & {*TWINS}) == 1
    page.get_by_role("button", name="+ 2 alike").click()
    assert {*TWINS} <= {*ids(page)}
    page.get_by_role("button", name="Fold again").click()
    assert ids(page) == found
    page.locator(".switch").click()
    assert "fold=0" in page.url
    assert {*TWINS} <= {*shown(page)}


def test_probabilities_and_the_line(page: Any):
    page.goto("/?q=sea")
    shown(page)
    assert re.fullmatch(r"(< 1|\d+) %", page.locator(".probability").first.inner_text())
    assert "The rest probably does not fit" in page.locator(".line").inner_text()
    # found and read at once, because hits that come later replace the line
    line = "document.querySelector('.line')"
    before = page.evaluate(f"[...{line}.parentNode.children].indexOf({line})")
    shares = page.eval_on_selector_all("hit-card", "cards => cards.map((card) => card.hit.probability)")
    assert 0 < before < len(shares)
    page.get_by_label("Order", exact=True).select_option("year")
    assert page.locator(".line").count() == 0


def test_scrolling_asks_for_more_and_ends_with_the_catalogue(page: Any):
    page.goto("/?q=sea&fold=0")
    first = shown(page)
    assert len(first) >= 30
    page.mouse.wheel(0, 10_000)
    until(page, "document.querySelectorAll('hit-card').length === 41")
    assert ids(page)[: len(first)] == first
    page.get_by_text("That is all.").wait_for()
    long = card(page, LONG)
    assert long.evaluate("each => each.scrollWidth <= each.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert card(page, "gone").locator(".failed").inner_text().startswith("The picture cannot be shown")


def test_the_keyboard_is_enough(page: Any):
    page.goto("/")
    page.wait_for_selector("search-state[data-state=begin]")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type(TEXT)
    page.keyboard.press("Enter")
    found = shown(page)
    page.keyboard.press("ArrowDown")
    focused = "document.activeElement.closest('hit-card').hit.item_id"
    assert page.evaluate(focused) == found[0]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == found[1]
    page.keyboard.press("ArrowDown")
    assert found.index(page.evaluate(focused)) > 2 or page.viewport_size["width"] < 500
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert found[0] in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    assert found[1] in dialog.inner_text()
    page.keyboard.press("Escape")
    until(page, f"document.activeElement.closest('hit-card')?.hit.item_id === {json.dumps(found[1])}")
    page.keyboard.press("+")
    until(page, "document.querySelectorAll('.chips .chip').length === 1")
    shown(page)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"


def test_results_are_saved(page: Any, tmp_path: Path):
    page.goto("/?q=sea")
    shown(page)
    hits = page.evaluate("document.querySelector('search-app').answer.hits")
    for kind in ("JSON", "CSV"):
        page.locator(".menu summary").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=f"as {kind}").click()
        assert download.value.suggested_filename == f"sea.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
    saved = json.loads((tmp_path / "JSON").read_text())
    assert [hit["item_id"] for hit in saved["hits"]] == [hit["item_id"] for hit in hits]
    assert saved["hits"][0]["record"] == hits[0]["record"]
    with (tmp_path / "CSV").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["item_id"] for row in rows] == [hit["item_id"] for hit in hits]
    assert [row["caption"] for row in rows] == [hit["record"].get("caption", "") for hit in hits]
