"""Which near duplicates are folded, and when: what the user sees moves after an action of the user alone."""

# ruff: noqa: F401, F811 - fixtures are imported by name
import io
from pathlib import Path
from typing import Any

import pytest
from looking import browser, ids, look, page, service, shown, until, world
from page_world import TWINS, landscape
from PIL import Image, ImageDraw

PAIR = ("picture 20", "picture 21")


def in_order(page: Any, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> None:
    """Let searches give some hits first and some last."""

    def answer(route: Any) -> None:
        response = route.fetch()
        body = response.json()
        place = {**{name: n - 99 for n, name in enumerate(first)}, **{name: 1 + n for n, name in enumerate(last)}}
        body["results"][0]["hits"].sort(key=lambda hit: place.get(hit["item_id"], 0))
        route.fulfill(response=response, json=body)

    page.route("**/api/search", answer)


def has_thumbnail(name: str) -> str:
    """JavaScript: whether the picture of a hit was loaded."""
    cards = "[...document.querySelectorAll('hit-card')]"
    return f"Boolean({cards}.find((card) => card.hit.item_id === '{name}')?.view.thumbnail)"


def test_sorting_folds_pictures_that_it_brings_onto_the_screen(page: Any):
    in_order(page, last=TWINS)
    page.goto("/?q=sea&f.modality=image")
    assert [*TWINS] == shown(page)[-3:]
    assert not any(page.evaluate(has_thumbnail(name)) for name in TWINS)
    page.get_by_label("Order", exact=True).select_option("item_id")
    page.get_by_role("button", name="+ 2 alike").wait_for()
    assert [name for name in ids(page) if name in TWINS] == [TWINS[0]]


def test_what_loads_by_itself_is_folded_below_the_screen_alone(page: Any, world: Path):
    media = world.parent / "media"
    held: list[Any] = []
    page.route("**/media/picture%200%20again", lambda route: held.append(route))
    for name in PAIR:
        page.route(f"**/media/{name.replace(' ', '%20')}", lambda route: route.fulfill(path=media / "20.jpg"))
    in_order(page, first=TWINS[:2], last=PAIR)
    page.goto("/?q=sea&f.modality=image")
    assert [*PAIR] == shown(page)[-2:]
    until(page, has_thumbnail(TWINS[0]))
    page.mouse.wheel(0, 1)  # what comes now comes after the user's action
    until(page, "document.querySelector('search-results').acts > 0")
    held[0].continue_()
    until(page, has_thumbnail(TWINS[1]))
    assert not any(page.evaluate(has_thumbnail(name)) for name in PAIR)
    page.evaluate(
        "scrollBy(0, [...document.querySelectorAll('hit-card')].at(-2).getBoundingClientRect().top - innerHeight - 200)"
    )
    until(page, f"[...document.querySelectorAll('hit-card')].at(-1).hit.item_id === '{PAIR[0]}'")
    assert {*TWINS[:2]} <= {*ids(page)}
    page.locator(".switch").click()
    assert {*PAIR} <= {*ids(page)}
    page.locator(".switch").click()
    assert not {TWINS[1], PAIR[1]} & {*ids(page)}


def circle(colour: str, at: int = 320) -> Image.Image:
    """A small circle on a black ground."""
    picture = Image.new("RGB", (640, 480))
    ImageDraw.Draw(picture).ellipse((at - 30, 210, at + 30, 270), fill=colour)
    return picture


def with_text(picture: Image.Image) -> Image.Image:
    """A picture with a small red mark."""
    ImageDraw.Draw(picture).rectangle((300, 300, 340, 330), fill="red")
    return picture


ORIGINALS = {"circle": circle("red"), "landscape": landscape(7), "bright": landscape(1, (1600, 1200))}
OTHERS = {
    "orange": ("circle", circle("orange")),
    "crimson": ("circle", circle("crimson")),
    "moved": ("circle", circle("red", 360)),
    "marked": ("landscape", with_text(landscape(7))),
}


def give(page: Any, name: str, body: bytes) -> None:
    """Let an item have another picture."""
    page.route(f"**/media/{name.replace(' ', '%20')}", lambda route: route.fulfill(body=body))


def show_both(page: Any, one: Image.Image, other: Image.Image, **saved: Any) -> None:
    """Show two pictures as the first hits."""
    for name, picture, given in zip(PAIR, (one, other), ({"format": "PNG"}, saved), strict=True):
        file = io.BytesIO()
        picture.save(file, **given)
        give(page, name, file.getvalue())
    in_order(page, first=PAIR)
    page.goto("/?q=sea&f.modality=image&fold=0")
    shown(page)
    for name in PAIR:
        until(page, has_thumbnail(name))
    page.locator(".switch").click()


@pytest.mark.parametrize("name", [*OTHERS])
def test_pictures_that_differ_in_one_place_are_not_folded(page: Any, name: str):
    original, other = OTHERS[name]
    show_both(page, ORIGINALS[original], other, format="PNG")
    until(page, "!location.href.includes('fold=0')")
    assert [*PAIR] == ids(page)[:2]


@pytest.mark.parametrize(
    ("name", "scale", "quality"),
    [("circle", 1, 30), ("circle", 0.3, 75), ("landscape", 0.5, 60), ("landscape", 1, 30), ("bright", 0.15, 90)],
)
def test_copies_are_folded(page: Any, name: str, scale: float, quality: int):
    original = ORIGINALS[name]
    copy = original.resize((round(original.width * scale), round(original.height * scale)))
    show_both(page, original, copy, format="JPEG", quality=quality)
    page.get_by_role("button", name="+ 1 alike").first.wait_for()
    assert PAIR[1] not in ids(page)
