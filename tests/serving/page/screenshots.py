"""Screenshots of the page in each look and state: python tests/serving/page/screenshots.py FOLDER."""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from looking import CHROMIUM, DOUBTFUL, LIKELY, LOOKS, playwright, shown
from page_world import serving, serving_examples, write_world
from test_states import SIGHTS, refuse_once, state


def slow(page: Any) -> None:
    refuse_once(page, lambda route: None)
    page.goto("/?q=sea")
    state(page, "slow")


def picture(page: Any, media: Path) -> None:
    page.goto("/")
    page.set_input_files("search-box input[type=file]", media / "7.jpg")
    shown(page)


def all_of(page: Any) -> None:
    page.goto("/?q=melody&fold=0")
    shown(page)
    for _ in range(30):
        page.mouse.wheel(0, 500)
        page.wait_for_timeout(60)
    page.wait_for_timeout(800)
    page.mouse.wheel(0, -20_000)


def main(folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, playwright.sync_playwright() as started:
        data = write_world(Path(root))
        file = Path(root) / "token"
        file.write_text("a token of enough characters")
        media = Path(root) / "media"
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with (
            serving(data, LIKELY) as (likely, _),
            serving(data, DOUBTFUL) as (doubtful, _),
            serving(data, token_file=file, dense_dim=0) as (locked, _),
            serving_examples(data) as untrained,
        ):
            sights = [(likely, name, see) for name, see in SIGHTS.items()]
            sights += [
                (likely, "slow", slow),
                (likely, "picture", lambda page: picture(page, media)),
                (likely, "all", all_of),
            ]
            sights += [(doubtful, "doubtful", lambda page: (page.goto("/?q=sea"), shown(page)))]
            sights += [(untrained, "untrained", lambda page: (page.goto("/"), shown(page)))]
            sights += [(locked, "token", lambda page: (page.goto("/?q=sea"), state(page, "token")))]
            for look, options in LOOKS.items():
                for address, name, see in sights:
                    context = browser.new_context(base_url=address, **options)
                    page = context.new_page()
                    see(page)
                    page.wait_for_timeout(900)
                    page.screenshot(path=folder / f"{name}-{look}.png", full_page=name == "all")
                    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
