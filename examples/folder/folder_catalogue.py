"""What the recipe of folders keeps of a catalogue: ``OUT/data``, and ``OUT/known.jsonl``, the state of the folder that it has."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from calls import Call, make
from folder_lists import digests_of
from folders import embeddings_of
from settings import Settings
from steps import Inputs, identifying

from cart_fairseq.base.files import replacing, write_json, write_jsonl
from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess import binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.encoders.embedded_files import encoder_of

KNOWN, FOLDER = "known.jsonl", "folder.path.json"


@dataclasses.dataclass(frozen=True)
class Known:
    """The state of a folder that a catalogue has.

    Attributes:
        digests: item id -> digest of its row and captions.
    """

    digests: Mapping[str, str]

    @classmethod
    def read(cls, out: Path, folder: Path) -> "Known | None":
        """What ``out`` has; None before all of it was made for the first time.

        Raises:
            ValueError: ``out`` belongs to another folder.
        """
        path = out / FOLDER
        if path.is_file() and (found := read_json(path)) != str(folder):
            raise ValueError(f"{out}: was made from {found}; choose another OUT for {folder}, or give that folder")
        if not (out / KNOWN).is_file():
            return None
        return cls({row["item_id"]: row["digest"] for row in read_jsonl(out / KNOWN)})

    @classmethod
    def of(cls, out: Path) -> "Known":
        """What the lists in ``out/folder`` say."""
        lists = out / "folder"
        return cls(digests_of(read_jsonl(lists / "items.jsonl"), read_jsonl(lists / "captions.jsonl")))

    def write(self, out: Path) -> None:
        """Keep this in ``out``."""
        rows = [{"item_id": item_id, "digest": each} for item_id, each in self.digests.items()]
        with replacing(out / KNOWN) as new:
            write_jsonl(new, rows)


def note_folder(out: Path, folder: Path) -> None:
    """Keep in ``out`` which folder it belongs to, so that it is not given another one."""
    with replacing(out / FOLDER) as new:
        write_json(new, str(folder))


def check_same(out: Path, settings: Settings) -> str:
    """Return the encoder that ``out/data`` was made with.

    Raises:
        ValueError: ENCODER or CAPTIONER asks for another.
    """
    data = out / "data"
    found = str((encoder_of(data) or {}).get("encoder"))
    if settings.encoder and settings.encoder != found:
        raise ValueError(f"ENCODER is {settings.encoder!r}, but {data} was made with {found!r}; choose another OUT")
    if settings.captioner and not (out / "captions.jsonl").is_file():
        raise ValueError(f"CAPTIONER is set, but {data} was made without a captioner; choose another OUT")
    return found


def check_embedded(new: Path, data: Path) -> None:
    """Refuse embeddings of new items that cannot be compared with those of the catalogue.

    Raises:
        ValueError: they were made with other weights, or other numbers of frames.
    """
    now, then = (encoder_of(each) or {} for each in (new, data))
    for name in ("weights", "frames"):
        if now.get(name) != then.get(name):
            raise ValueError(
                f"{new}: made with {name} {now.get(name)}, but {data} with {then.get(name)}; give the same EMBEDDING_FLAGS "
                "and weights as then, or choose another OUT"
            )


def build_without_text(out: Path, settings: Settings) -> None:
    """Identifiers, and a data-bin without captions."""
    data = out / "data"
    embeddings, items = embeddings_of(data), data / "items.jsonl"
    inputs = Inputs(embeddings, data / "captions.jsonl")
    own = ["--identifiers", out / "identifiers", "--embeddings", embeddings, "--output", out / "data-bin"]
    make(
        {
            "4. identifiers": identifying(inputs, items, out, "joined", settings, len(read_jsonl(items))),
            "5. data": Call(binarize, DataBinSettings, own, "BINARIZE_FLAGS"),
        }
    )
