"""The notebooks of examples/notebooks: read, execute, and strip of all that a run leaves in them.

python tests/examples/notebooks/notebook_files.py    # strips them, before a commit
"""

import json
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
ANSWER = "ANSWER "


def stripped(path: Path) -> str:
    """The text of a notebook without outputs, counts of execution and metadata of a machine."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"] = KERNEL
    for number, cell in enumerate(notebook["cells"], start=1):
        cell["id"], cell["metadata"] = f"cell-{number:02d}", {}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return str(nbformat.writes(nbformat.from_dict(notebook))) + "\n"


def execute(name: str, folder: Path, python: Path, settings: str, answer: str) -> tuple[Any, list[str]]:
    """Run a notebook from start to end.

    Args:
        name: of the notebook, without its suffix.
        folder: empty; receives `here`, the working folder, and `temporary`, the folder of temporary files.
        python: what the notebook's commands run with.
        settings: code that runs after the first cell of code, which has the settings.
        answer: an expression, evaluated after the last cell.

    Returns:
        The value of the expression, by way of JSON, and the kinds of all outputs (`stream`, `image/png` …).
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    first = next(place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    settings = f"import sys\n\nsys.executable = {str(python)!r}\n{settings}"
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(settings))
    notebook.cells.append(nbformat.v4.new_code_cell(f"print({ANSWER!r} + json.dumps({answer}))"))
    for each in ("here", "temporary", "home"):
        (folder / each).mkdir()
    changed = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "temporary"),
        "IPYTHONDIR": str(folder / "home"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "home"),  # which torch has among the temporary files
    }
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder / "here")}})
    client.execute(env={**os.environ, **changed})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {output.output_type: None})]
    said = "".join(output["text"] for output in outputs[-1:])
    return json.loads(said.rpartition(ANSWER)[2]), kinds


if __name__ == "__main__":
    for notebook_path in NOTEBOOKS:
        notebook_path.write_text(stripped(notebook_path), encoding="utf-8")
