"""Which near duplicates are folded, and when: what the user sees moves after an action of the user alone."""

# ruff: noqa: F401, F811 - fixtures are imported by name
from pathlib import Path
from typing import Any

from looking import browser, ids, look, page, service, shown, until, world
from page_world import TWINS

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
    held[0].continue_()
    until(page, has_thumbnail(TWINS[1]))
    assert not any(page.evaluate(has_thumbnail(name)) for name in PAIR)
    page.evaluate("scrollBy(0, [...document.querySelectorAll('hit-card')].at(-2).getBoundingClientRect().top - innerHeight - 200)")
    until(page, f"[...document.querySelectorAll('hit-card')].at(-1).hit.item_id === '{PAIR[0]}'")
    assert {*TWINS[:2]} <= {*ids(page)}
    page.locator(".switch").click()
    assert {*PAIR} <= {*ids(page)}
    page.locator(".switch").click()
    assert not {TWINS[1], PAIR[1]} & {*ids(page)}
