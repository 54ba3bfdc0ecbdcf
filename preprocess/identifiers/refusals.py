"""What `build_identifiers` refuses before it computes anything: settings that do not go together, degenerate catalogues."""

from pathlib import Path

import numpy as np

from preprocess.data.arguments import flag
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.schemes.scheme import Scheme
from preprocess.identifiers.schemes.semantic import Semantic
from preprocess.identifiers.settings import SWITCHES, FitSettings, IdentifierSettings


def refuse_unmovable(settings: IdentifierSettings, scheme: Scheme) -> None:
    """Raise where items are to move to free codes, and the scheme has none."""
    if settings.collisions == "nearest-free" and not scheme.movable:
        movable = ", ".join(name for name, other in SCHEMES.items() if other.movable)
        raise ValueError(
            f"--collisions nearest-free needs one of the schemes {movable}; --scheme is {scheme.name}, which has no free "
            "codes that mean something"
        )


def refuse_unused(settings: IdentifierSettings, scheme: Scheme) -> None:
    """Raise where a switch is given that the scheme has no use for, or `--faithful` for a scheme that is not the paper's."""
    if settings.faithful and not scheme.published:
        published = ", ".join(name for name, other in SCHEMES.items() if other.published)
        raise ValueError(f"--faithful is for the paper's schemes {published}; --scheme is {scheme.name}")
    given = [name for name in SWITCHES if getattr(settings, name) is not None]
    given += ["kmeans"] if settings.kmeans == "sklearn-default" else []
    for name in given:
        if name not in scheme.switches:
            users = ", ".join(other.name for other in SCHEMES.values() if name in other.switches)
            raise ValueError(
                f"{flag(name)} is {getattr(settings, name)}; only the schemes {users} use it, and --scheme is {scheme.name}; "
                "leave it out"
            )


def refuse_captions(settings: IdentifierSettings, captions: str | Path | None) -> None:
    """Raise where captions are given and the scheme has no use for them, or the other way round."""
    if settings.scheme == Semantic.name:
        if captions is None:
            raise ValueError("--scheme semantic makes identifiers of captions; give the file with --captions")
        return
    given = [flag(name) for name in ("caption_words", "caption_vocabulary") if getattr(settings, name) is not None]
    for name in (["--captions"] if captions is not None else []) + given:
        raise ValueError(f"{name} is for --scheme semantic, and --scheme is {settings.scheme}; leave it out")


def refuse_degenerate(path: Path, embeddings: Embeddings, scheme: Scheme, fit: FitSettings) -> None:
    """Raise for catalogues that no clustering can tell apart: one item, fewer than the scheme needs, or all alike."""
    needed = scheme.needed(fit)
    if needed is None:
        return
    rows, anyway = len(embeddings), "or build anyway with --allow-collapse"
    if rows == 1:
        raise ValueError(f"{path}: only 1 item, there is nothing to cluster; give more items {anyway}")
    if rows < needed.items:
        raise ValueError(f"{path}: {rows} items are too few for {needed.by}; {needed.remedy} {anyway}")
    first = np.asarray(embeddings[:1])
    if all((np.asarray(embeddings[block]) == first).all() for block in blocks(*embeddings.shape)):
        raise ValueError(f"{path}: all {rows} embeddings are identical; check how they were extracted {anyway}")
