"""transformers beside a torchaudio that does not load, as fairseq's often does not beside another build of torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(code: str, folder: Path) -> str:
    """Standard output of a Python that finds `folder` and the project first."""
    paths = os.pathsep.join([str(folder), str(REPOSITORY)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def make_torchaudio(folder: Path, source: str) -> None:
    (folder / "torchaudio").mkdir()
    (folder / "torchaudio" / "__init__.py").write_text(source)


def test_transformers_works_beside_a_torchaudio_that_does_not_load(tmp_path):
    make_torchaudio(tmp_path, "raise OSError('Could not load this library: libtorchaudio.so')")
    code = "from cart_fairseq.base.libraries import import_library as load; library = load('transformers'); "
    code += "print(library.AutoModel.__name__, load('transformers.audio_utils').is_torchaudio_available())"
    assert run(code, tmp_path).split() == ["AutoModel", "False"]


def test_a_torchaudio_that_loads_stays(tmp_path):
    make_torchaudio(tmp_path, "sound = 'heard'")
    code = "from cart_fairseq.base.libraries import hide_broken_torchaudio as hide; hide(); import torchaudio; print(torchaudio.sound)"
    assert run(code, tmp_path).split() == ["heard"]


@pytest.mark.parametrize("package", ["cart_fairseq", "preprocess", "examples"])
def test_no_module_imports_transformers_without_that_care(package):
    """Every import is by `import_library`, or in a function that calls `hide_broken_torchaudio` first."""
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {"transformers", "sentence_transformers"} & {name.split(".")[0] for name in names}:
                before = "".join(text.splitlines(keepends=True)[: node.lineno - 1]).rpartition("def ")[2]  # type: ignore[attr-defined]
                assert "hide_broken_torchaudio()" in before, f"{path}:{node.lineno}"  # type: ignore[attr-defined]
