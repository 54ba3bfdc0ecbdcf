"""What lies in the folders DATA and OUT of a recipe."""

import shutil
from pathlib import Path


def link(target: Path, path: Path) -> None:
    """Make `path` a symbolic link to `target`, whatever it was."""
    if not path.is_symlink() or path.readlink() != target:
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def embeddings_of(data: Path) -> Path:
    """A folder of shards where there is one, else the file."""
    shards = data / "embeddings"
    return shards if shards.is_dir() else data / "embeddings.npy"


def forget_figures(out: Path) -> None:
    """Remove what was measured of another model than the one to be trained."""
    shutil.rmtree(out / "results", ignore_errors=True)
    measured = [path for path in out.iterdir() if path.suffix == ".trec" and path.name.startswith(("run.", "qrels."))]
    for path in (out / "metrics.json", out / "tuned.json", *measured):
        path.unlink(missing_ok=True)
