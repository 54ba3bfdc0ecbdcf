"""HTML pages that need nothing else: the frame, the style common to all, pictures and players as data URIs."""

import base64
import html
from pathlib import Path

from cart_fairseq.base.media_types import MEDIA_TYPES

STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1d1d22; --soft: #64646f; --line: #dedcd6;
  --mark: #0b5c8f; --good: #157a3d; --good-soft: #dff3e5; }
@media (prefers-color-scheme: dark) { :root { --page: #141418; --card: #1e1e24; --ink: #ececf0; --soft: #a2a2ae;
  --line: #34343d; --mark: #7cc4ef; --good: #5fd38a; --good-soft: #163523; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
p { margin: 0 0 1rem; max-width: 48rem; }
.soft, .note, figcaption { color: var(--soft); }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .6rem 1.1rem; }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.45rem; font-weight: 650; font-variant-numeric: tabular-nums; }
"""


def document(title: str, style: str, body: str) -> str:
    """A whole page.

    Args:
        title: as plain text.
        style: CSS that comes after `STYLE`.
        body: HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def tiles(figures: dict[str, str]) -> str:
    """Figures side by side: label -> value, as plain texts."""
    cells = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in figures.items())
    return f"<dl>{cells}</dl>"


def embedded(media_type: str, content: bytes) -> str:
    """A data URI: an address that holds the bytes."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def data_uri(path: Path) -> str:
    """A media file as a data URI.

    Raises:
        ValueError: the file is missing, or of a kind that browsers do not show or play.
    """
    media_type = MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        raise ValueError(f"{path}: not one of {', '.join(MEDIA_TYPES)}; only these can be shown or played")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check `media` of its item")
    return embedded(media_type, path.read_bytes())


def medium(uri: str, description: str) -> str:
    """A picture, or a player for a sound or video, of a data URI; `description` is its text for those who cannot see it."""
    kind, text = uri.removeprefix("data:").partition("/")[0], html.escape(description, quote=True)
    if kind == "image":
        return f'<img src="{uri}" alt="{text}">'
    return f'<{kind} controls preload="metadata" src="{uri}" aria-label="{text}"></{kind}>'
