"""What README.md, the guide and the READMEs of recipes tell people to type: commands, Python examples, inline code."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
INLINE = re.compile(r"(?:[A-Z_]+=\S+ )*(?:bash examples/|python examples/|python -m preprocess\.)")
READMES = [*sorted((ROOT / "examples").rglob("README.md")), ROOT / "tests" / "compatibility" / "README.md"]


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes:
        page: the file's path in the repository.
        variables: those set before the program.
        words: the program and its arguments.
    """

    page: str
    variables: dict[str, str]
    words: list[str]

    @property
    def program(self) -> str:
        """The program; of ``python -m MODULE`` the module, of other scripts the script."""
        if self.words[0] in ("python", ".venv/bin/python", "bash"):
            return self.words[2] if self.words[1] == "-m" else self.words[1]
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        """What follows the program."""
        return self.words[self.words.index(self.program) + 1 :]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def fences(page: Path, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(*pages: Path) -> list[Command]:
    """Every command of the pages' ``sh`` blocks, and those in inline code that run a recipe or a step of `preprocess`."""
    found = []
    for page in pages:
        lines = [line for block in fences(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
        for line in [*lines, *filter(INLINE.match, inline_code(page))]:
            words = shlex.split(line, comments=True)
            variables = {}
            while words and re.match(r"[A-Z_]+=", words[0]):
                name, value = words.pop(0).split("=", 1)
                variables[name] = value
            if words:
                found.append(Command(name_of(page), variables, words))
    return found


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name


def inline_code(page: Path) -> list[str]:
    """The text of every `code` outside code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"`([^`]+)`", text)
