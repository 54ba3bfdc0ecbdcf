"""What the guide says is there, is there: flags, modules, files, packages; the site is built without the network."""

import importlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import load_example
from documented import PAGES, READMES, ROOT, inline_code
from fairseq import options

from cart_fairseq.tasks import plugin  # noqa: F401  registers what --task, --arch and --criterion name

PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
EVERY_PAGE = pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(ROOT)))
MODULE = r"(?<![\w/.-])(?:cart_fairseq|preprocess)(?:\.\w+)+"
DOORS = [
    "preprocess.annotations.__main__",
    "preprocess.binarize",
    "preprocess.build_identifiers",
    "preprocess.extract_embeddings",
    "preprocess.generate_captions",
    "preprocess.inspect_identifiers",
    "preprocess.join_captions",
    "preprocess.read_folder",
    "preprocess.update_identifiers",
    "preprocess.verify",
    "cart_fairseq.evaluate",
    "cart_fairseq.export",
    "cart_fairseq.serve",
    "cart_fairseq.tune",
]


@cache
def known_flags() -> set[str]:
    """The flags of our commands, fairseq's with our plugin, and the scripts of examples."""
    flags = f"data-bin --user-dir {ROOT}/cart_fairseq --task cart_retrieval --arch cart --criterion cart_rdrop"
    train = options.get_training_parser(default_task="cart_retrieval")
    options.parse_args_and_arch(train, input_args=[*flags.split(), "--optimizer", "adam", "--lr-scheduler", "cosine"])
    generate = options.get_generation_parser(default_task="cart_retrieval")
    parsers = [train, generate, *(importlib.import_module(door).parser() for door in DOORS)]
    found = {flag for parser in parsers for flag in parser._option_string_actions}
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action.choices, dict):  # subcommands
                found |= {flag for each in action.choices.values() for flag in each._option_string_actions}
    for path in [
        path for folder in ("examples", "preprocess", "tests/trust") for path in (ROOT / folder).rglob("*.py")
    ]:
        found |= set(re.findall(r'"(--[a-z][a-z0-9-]+)"', path.read_text(encoding="utf-8")))
    return found | {"--help", "--install"}  # the second is xcode-select's


@PAGE
def test_flags_exist(page):
    named = {flag for code in inline_code(page) for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]+", code)}
    assert named <= known_flags()


@EVERY_PAGE
def test_files_and_modules_exist(page):
    assert missing(page) == []


def missing(page: Path) -> list[str]:
    """Paths of the repository and modules that a page names, in its text or its commands, and that are not there."""
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w/.-])(?:cart_fairseq|preprocess|examples|tests|docs)/[\w./-]*\w", text)
    absent = [path for path in paths if not (ROOT / path).exists()]
    for code in inline_code(page):
        absent += [name for name in re.findall(MODULE, code) if not exists(name)]
        if page in READMES and re.fullmatch(r"[\w-]+\.(?:py|sh)", code) and not (page.parent / code).is_file():
            absent.append(code)
    return absent


@pytest.mark.parametrize("path", ["cart_fairseq/allocator.py", "`examples/no_such/run.sh`", "`preprocess.no_such`"])
def test_a_dead_path_is_noticed(path, tmp_path):
    (tmp_path / "page.md").write_text(f"See {path}, and docs/index.md.\n")
    assert missing(tmp_path / "page.md") == [path.strip("`")]


def exists(dotted: str) -> bool:
    """Whether a package or a module is there, or a module that defines the names that follow, as a class and a method."""
    if (ROOT / dotted.replace(".", "/")).is_dir():
        return True
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:count]).with_suffix(".py")
        if module.is_file():
            source = module.read_text(encoding="utf-8")
            return all(re.search(rf"^\s*(?:(?:class|def) {name}|{name}\b.*=)", source, re.M) for name in parts[count:])
    return False


def test_the_layout_is_whole():
    """Every package and door is in the tree of the development page."""
    [tree] = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "development.md").read_text(encoding="utf-8"), re.S)
    for top in ("cart_fairseq", "preprocess"):
        below = tree.split(f"{top}/", 1)[1]
        for path in sorted((ROOT / top).rglob("*")):
            if path.is_dir() and (path / "__init__.py").is_file():
                assert f"{path.name}/" in below, path
            elif path.parent == ROOT / top and path.suffix == ".py" and not path.name.startswith("_"):
                assert re.search(rf"\b{path.stem}\b(?!/)", below), path


def first_cells(heading: str) -> list[int]:
    """The numbers of a table of the page about the paper, under a heading."""
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    cells = re.findall(r"^\| (\d[\d, ]*) \|", text.partition("\n## ")[0], re.M)
    return [int(number) for cell in cells for number in cell.split(",")]


@pytest.mark.parametrize(("heading", "count"), [("Equations", 8), ("Tables", 11), ("Figures", 5)])
def test_each_equation_table_and_figure_of_the_paper_has_its_place(heading, count):
    assert first_cells(heading) == list(range(1, count + 1))


def test_the_guide_names_every_ablation():
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    named = re.findall(r"ablations/run\.sh ([\w-]+)", text) + re.findall(r"`(8-\w+)`", text)
    assert sorted(set(named)) == sorted(load_example("ablations", "paper_tables").TABLES)


def test_every_file_of_a_data_bin_is_described():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    made = ROOT / "tests" / "compatibility"
    for path in [*(made / "dense" / "data-bin").rglob("*"), *(made / "joined").iterdir()]:
        name = re.sub(r"\b(train|valid|test)\b", "SUBSET", path.name)
        name = re.sub(r"candidates\.\w+", "candidates.NAME", name).replace(".idx", ".bin")
        assert path.is_dir() or f"`{name}`" in text, path


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(page.name for page in PAGES if page.name != "README.md")


@EVERY_PAGE
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" not in target, f"{page}: {target}"
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_site_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    offline = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="((?:https?:)?//[^"]+)', page.read_text("utf-8"))
        assert not loaded, (page, loaded)
    api = (tmp_path / "site" / "api.html").read_text("utf-8")
    for name in ("build_identifiers", "binarize", "IdentifierSettings"):
        assert f'id="preprocess.api.{name}"' in api
    assert 'id="cart_fairseq.CartRetriever.search"' in api
    assert "FIT_ROWS" not in api
    assert "200000" in api  # its value
    assert (tmp_path / "site" / "search" / "search_index.js").is_file()  # the search of pages opened from a disk
