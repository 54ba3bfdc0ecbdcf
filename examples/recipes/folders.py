"""What lies in the folders DATA and OUT of a recipe, and links and copies of it."""

import shutil
from collections.abc import Sequence
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


def copy_parts(source: Path, names: Sequence[str], target: Path) -> None:
    """Make `target` a folder with copies of these folders of another; stopped half-way, it is not there."""
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in names:
        shutil.copytree(source / name, temporary / name, symlinks=True)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
