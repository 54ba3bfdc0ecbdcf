"""The page in a browser: from Enter to the pictures on the screen.

    python examples/serving/page_times.py --port 8000 --queries queries.txt --count 50 --json page.json

Each query is typed and sent with Enter. The time ends with the first frame in which every hit inside the window has its
picture decoded. The browser's cache is off, so each picture is fetched. Needs playwright and chromium; see
`tests/serving/page`.
"""

import argparse
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from http_client import HOST
from load import origin, quantile, texts_of

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script

WARM = 3
"""Searches that are not measured."""
WATCH = """() => {
  for (const card of document.querySelectorAll("hit-card")) card.dataset.before = "";
  window.pressed = null;
  const note = (event) => { if (event.key === "Enter") window.pressed = performance.now(); };
  addEventListener("keydown", note, { capture: true, once: true });
}"""
"""Marks the hits that are there, and notes when Enter is pressed."""
SHOWN = """async (limit) => {
  const frame = () => new Promise(requestAnimationFrame);
  const inside = (card) => { const { top, bottom } = card.getBoundingClientRect(); return bottom > 0 && top < innerHeight; };
  for (;;) {
    await frame();
    const took = performance.now() - window.pressed;
    if (took > limit) throw new Error(`no pictures after ${limit} ms`);
    if (document.querySelector("search-results ul[aria-busy]")) continue;
    const cards = [...document.querySelectorAll("hit-card")].filter(inside);
    const pictures = cards.flatMap((card) => [...card.querySelectorAll("img")]);
    const fresh = cards.length && cards.every((card) => card.dataset.before === undefined && card.querySelector(".loaded"));
    if (!fresh || !pictures.every((img) => img.complete && img.naturalWidth)) continue;
    await Promise.all(pictures.map((img) => img.decode()));
    await frame();
    const search = performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/api/search")).at(-1);
    const shown = performance.now() - window.pressed;
    performance.clearResourceTimings();
    return { shown, search: search.duration, pictures: pictures.length };
  }
}"""
"""Waits for the pictures; returns milliseconds since Enter and those of the request, and the number of pictures."""


@contextmanager
def open_page(port: int, chromium: str) -> Iterator[Any]:
    """A page of the service in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 850}, base_url=f"http://{HOST}:{port}")
        page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
        page.goto("/")
        page.wait_for_selector("#query:enabled")
        yield page
        browser.close()


def search(page: Any, text: str, limit: float) -> dict[str, float]:
    """Search for a text as a person does, and wait for the pictures; see :data:`SHOWN`."""
    page.fill("#query", text)
    page.evaluate(WATCH)
    page.keyboard.press("Enter")
    found: dict[str, float] = page.evaluate(SHOWN, limit)
    return found


def figures(searches: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Medians and 95th percentiles in milliseconds."""
    shown, asked = (sorted(each[name] / 1000 for each in searches) for name in ("shown", "search"))
    return {
        "searches": len(searches),
        "pictures_on_screen": sum(each["pictures"] for each in searches) / len(searches),
        "p50_ms": quantile(shown, 0.5),
        "p95_ms": quantile(shown, 0.95),
        "max_ms": quantile(shown, 1.0),
        "request_p50_ms": quantile(asked, 0.5),
        "request_p95_ms": quantile(asked, 0.95),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="From Enter to the pictures on the screen, in a browser.")
    made.add_argument("--port", type=int, required=True, help="of the service, on this machine")
    made.add_argument("--queries", type=Path, metavar="FILE", help="a query a line (default: five of our own)")
    made.add_argument("--count", type=int, default=50, help="searches (default: %(default)s)")
    made.add_argument("--limit", type=float, default=10_000.0, help="longest wait in ms (default: %(default)s)")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    made.add_argument("--chromium", default=chromium, metavar="FILE", help="the browser (default: %(default)s)")
    made.add_argument("--about", default="", metavar="TEXT", help="what is measured, for the record")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; see the module's docstring.

    Raises:
        ValueError: there is no browser.
    """
    args = parser().parse_args(argv)
    if args.chromium is None:
        raise ValueError("no chromium was found; install it, or give --chromium")
    texts = texts_of(args.queries)
    chosen = random.Random(0).sample(texts, min(args.count + WARM, len(texts)))
    with open_page(args.port, args.chromium) as page:
        searches = [search(page, text, args.limit) for text in chosen][WARM:]
        version = page.context.browser.version
    found = figures(searches)
    for name, value in found.items():
        print(f"{name}: {value:.1f}")
    if args.json:
        write_json(args.json, {**origin(args, len(texts)), "browser": f"chromium {version}", "results": [found]})


if __name__ == "__main__":
    run_script(main)
