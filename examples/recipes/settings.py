"""What the environment's variables say to a recipe: one quoting rule, the shell's, for all of them."""

import dataclasses
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from schedules import RECIPES

JOINED = ("text_encoder", "index_captions", "join_flags")
"""Fields that only the recipe ``joined`` reads."""
INDEX_CAPTIONS = ("", "include", "exclude", "borrowed")


def words(name: str, default: str = "", environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words of a variable, quoted as in a shell; of an empty or missing one, those of the default.

    >>> words("SPLIT_FLAGS", environment={"SPLIT_FLAGS": "--name 'a b' --seed 2"})
    ['--name', 'a b', '--seed', '2']

    Raises:
        ValueError: a quote is not closed.
    """
    text = environment.get(name) or default
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"{name} is {text!r}: {str(error).lower()}; close every quote, as in {name}=\"--flag 'a value'\""
        ) from None


@dataclasses.dataclass(frozen=True)
class Settings:
    """One field a variable; flags come after a recipe's own, and win.

    Attributes:
        recipe: RECIPE, a name of `schedules.RECIPES`; empty: what suits the machine.
        encoder: ENCODER, for embeddings.
        captioner: CAPTIONER, for generated captions.
        text_encoder: TEXT_ENCODER, a pretrained model that reads the queries; for the recipe ``joined``.
        index_captions: INDEX_CAPTIONS: ``include``, ``exclude`` or ``borrowed``; for the recipe ``joined``.
        annotation_flags: ANNOTATION_FLAGS, and so on: flags of that command.
        own_identifiers: flags of ``build_identifiers`` that a recipe adds to its own, before the user's.
        own_join: flags of ``join_captions`` that a recipe adds, likewise.
        own_start: OUT of a run that this one continues: the recipe has put identifiers into ``OUT/identifiers`` itself,
            fitted parts of a join and the vocabulary are that run's, and nothing is held out. None: a new model.
    """

    recipe: str = ""
    encoder: str = ""
    captioner: str = ""
    text_encoder: str = ""
    index_captions: str = ""
    annotation_flags: tuple[str, ...] = ()
    embedding_flags: tuple[str, ...] = ()
    caption_flags: tuple[str, ...] = ()
    join_flags: tuple[str, ...] = ()
    identifier_flags: tuple[str, ...] = ()
    binarize_flags: tuple[str, ...] = ()
    own_identifiers: tuple[str, ...] = ()
    own_join: tuple[str, ...] = ()
    own_start: Path | None = None

    def __post_init__(self) -> None:
        """Check names.

        Raises:
            ValueError: a variable has a value that nothing understands.
        """
        if self.recipe and self.recipe not in RECIPES:
            raise ValueError(f"RECIPE is {self.recipe!r}; use one of {', '.join(RECIPES)}, or leave it out")
        if self.index_captions not in INDEX_CAPTIONS:
            raise ValueError(
                f"INDEX_CAPTIONS is {self.index_captions!r}; use one of {', '.join(INDEX_CAPTIONS[1:])}, or leave it out"
            )

    def check_for(self, recipe: str) -> None:
        """Refuse what a recipe would not read.

        Raises:
            ValueError: a variable is set that belongs to the recipe ``joined``, and this is another one.
        """
        if RECIPES[recipe].joined:
            return
        given = [name.upper() for name in JOINED if getattr(self, name)]
        if given:
            raise ValueError(
                f"{' and '.join(given)}: only RECIPE=joined reads this, and the recipe is {recipe}; leave it out, or set "
                "RECIPE=joined"
            )


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that the environment names.

    Raises:
        ValueError: a variable cannot be read; the message names it.
    """
    values = {
        field.name: tuple(words(field.name.upper(), environment=environment))
        if field.name.endswith("_flags")
        else environment.get(field.name.upper(), "")
        for field in dataclasses.fields(Settings)
        if not field.name.startswith("own_")
    }
    return Settings(**values)  # type: ignore[arg-type]
