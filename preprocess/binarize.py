"""Captions and identifiers -> ``data-bin``, the folder that ``fairseq-train`` reads (task ``cart_retrieval``).

Every training caption becomes a pair (query, identifier of its item); ``query`` captions become the valid and test sets
and never influence anything but their own rows. See ``roles.py`` for who goes where and ``vocabulary.py`` for the
query dictionary.
"""

import argparse
import collections
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cart_fairseq.catalogue.data_bin import TRIE, DataBin, build_trie
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import SCHEMA_VERSION, file_entry
from cart_fairseq.catalogue.text_encoder import TextEncoder
from cart_fairseq.files import read_json, replacing, run_script, sha256, write_json
from preprocess.data.fields import INDEX_CAPTIONS, MEASURED
from preprocess.data.inputs import read_captions
from preprocess.data.roles import Caption, assign, candidate_rows, hold_out, resolve
from preprocess.data_bin.choice import VocabularyChoice
from preprocess.data_bin.dense import open_dense, refuse_measured, write_dense
from preprocess.data_bin.subsets import cut_queries, encode_queries, write_subset

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the result depends on beside its input files; written to the manifest.

    Attributes:
        vocab_size: the most sentencepiece pieces, specials included; a text encoder has its own vocabulary.
        index_captions: ``include`` or ``exclude`` the index captions of valid and test items in training, or train on
            those that are ``borrowed`` from training items.
        seed: of the held-out sample.
        valid_size: captions held out where no valid query exists; None means 5 % and at most 1,000.
        max_query_tokens: longer queries are cut; the end of sentence counts.
    """

    vocab_size: int = 10000
    index_captions: str = "include"
    seed: int = 1
    valid_size: int | None = None
    max_query_tokens: int = 256

    def check(self) -> None:
        """Raise ValueError for a value that cannot work."""
        if self.index_captions not in INDEX_CAPTIONS:
            raise ValueError(f"--index-captions is {self.index_captions!r}; use {', '.join(INDEX_CAPTIONS)}")
        if self.max_query_tokens < 2:
            raise ValueError(f"--max-query-tokens is {self.max_query_tokens}; a token and the end of sentence need 2")
        if self.seed < 0:
            raise ValueError(f"--seed is {self.seed}; it must not be negative")
        if self.valid_size is not None and self.valid_size < 0:
            raise ValueError(f"--valid-size is {self.valid_size}; use 0 to hold nothing out")


def binarize(
    identifiers: Path,
    captions: Path,
    output: Path,
    settings: Settings = Settings(),
    vocabulary_from: Path | None = None,
    embeddings: Path | None = None,
    text_encoder: str | None = None,
) -> bool:
    """Write a ``data-bin``, atomically; do nothing where ``output`` was made from the same inputs and settings.

    Args:
        identifiers: an identifier bundle.
        captions: ``captions.jsonl``.
        output: the folder to make; only an earlier data-bin or an empty folder is replaced.
        vocabulary_from: a data-bin whose query vocabulary, and text encoder, is used instead of one trained on these
            captions, so that a checkpoint of that data-bin goes on with this one.
        embeddings: of the items, for a dense head: as `build_identifiers` reads, or a folder of `join_captions`.
        text_encoder: a pretrained encoder of transformers, by name or folder, that the data-bin is to hold; its vocabulary
            is the query vocabulary then.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: an input is wrong; the message names it.
    """
    settings.check()
    bundle = IdentifierBundle.load(identifiers)
    items = [{"item_id": item_id, "split": split} for item_id, split in zip(bundle.item_ids, bundle.splits)]
    rows = read_captions(captions, items)
    inputs = {
        "identifiers": sha256(identifiers / MANIFEST),
        "captions": sha256(captions),
        **dataclasses.asdict(settings),
    }
    choice = VocabularyChoice(vocabulary_from, text_encoder)
    inputs |= choice.inputs()
    dense = open_dense(embeddings, len(bundle), rows, settings.index_captions) if embeddings else None
    if dense is not None:
        inputs["embeddings"] = dense[2]
    if is_current(output, inputs):
        print(f"{output}: up to date (same identifiers, captions and settings), nothing to do")
        return False
    bundle.verify()

    everyone = {item_id: row for row, item_id in enumerate(bundle.item_ids)} | bundle.row_of
    resolved = resolve(rows, everyone, bundle.splits, str(captions))
    gone = set(bundle.removed.tolist())
    remaining = [caption for caption in resolved if caption.item_row not in gone]
    subsets = assign(remaining, settings.index_captions)
    held_out = False
    if not subsets["valid"]:
        subsets["train"], subsets["valid"] = hold_out(subsets["train"], settings.valid_size, settings.seed)
        held_out = bool(subsets["valid"])
    if not subsets["train"]:
        raise ValueError(
            f"{captions}: no caption to train on; give captions of training items the role 'train', "
            "or allow index captions (--index-captions include)"
        )
    if embeddings and dense and dense[1] is not None:
        refuse_measured(embeddings, dense[1], [caption for subset in MEASURED for caption in subsets[subset]])
    symbols = bundle.symbols()
    candidates = {"all": bundle.kept}
    for subset in MEASURED:  # also where only items of the split are there: queries may come later
        if subsets[subset] or subset in bundle.splits:
            candidates[subset] = candidate_rows(
                bundle.split_column, subset, held_out and subset == "valid", bundle.removed
            )

    texts = [caption.text for caption in subsets["train"]]
    vocabulary = choice.vocabulary(texts, settings.vocab_size, settings.seed, settings.max_query_tokens)
    queries = {subset: encode_queries(members, vocabulary, str(captions)) for subset, members in subsets.items()}
    notes = [note for subset in queries for note in cut_queries(queries[subset], settings.max_query_tokens, subset)]
    with replacing(output, directory=True) as new:
        described = vocabulary.write(new)
        copy_bundle(bundle, new / "identifiers")
        shutil.copyfile(identifiers / "dict.id.txt", new / "dict.id.txt")
        build_trie(bundle).save(new / TRIE, bundle.state)
        for name, rows_of_set in candidates.items():
            np.save(new / f"candidates.{name}.npy", rows_of_set, allow_pickle=False)
        for subset, members in subsets.items():
            if members:
                write_subset(new, subset, members, queries[subset], symbols)
        if dense is not None:
            write_dense(new, *dense[:2], subsets["train"])
        files = sorted(path for path in new.iterdir() if path.is_file())  # folders have entries of their own
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": "data-bin",
            "index_captions": settings.index_captions,
            "fingerprint": bundle.fingerprint,
            "identifiers": bundle.state,
            "seed": settings.seed,
            "counts": {
                subset: {"queries": len(members), "candidates": len(candidates.get(subset, candidates["all"]))}
                for subset, members in subsets.items()
                if members
            },
            "valid_held_out": held_out,
            "inputs": inputs,
            **described,
            "files": {path.name: file_entry(path) for path in files},
        }
        write_json(new / MANIFEST, manifest)
    print(summary(subsets, candidates, held_out, settings.index_captions, len(vocabulary)))
    if len(remaining) < len(resolved):
        notes.append(f"{len(resolved) - len(remaining)} captions of removed items were left out")
    print("".join(f"note: {note}\n" for note in notes), end="")
    print(f"wrote {output}")
    return True


def is_current(output: Path, inputs: dict[str, object]) -> bool:
    """Whether ``output`` is a complete data-bin made from ``inputs``.

    Raises:
        ValueError: ``output`` holds something else, which must not be replaced.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file; choose another --output")
    if not output.is_dir() or not any(output.iterdir()):
        return False
    manifest = read_json(output / MANIFEST) if (output / MANIFEST).is_file() else None
    if not isinstance(manifest, dict) or manifest.get("kind") != "data-bin":
        raise ValueError(f"{output}: holds files that are no data-bin; choose an empty or new folder for --output")
    try:
        data = DataBin(output)
        TextEncoder.of(data)
        return data.manifest.get("inputs") == inputs
    except (ValueError, KeyError):
        return False


def copy_bundle(bundle: IdentifierBundle, target: Path) -> None:
    """Copy an identifier bundle, without what an update that was killed may have left in it."""
    for name in (*bundle.manifest["files"], MANIFEST):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.directory / name, target / name)


def summary(
    subsets: dict[str, list[Caption]],
    candidates: dict[str, np.ndarray],
    held_out: bool,
    index_captions: str,
    symbols: int,
) -> str:
    """What was made of the captions, as a table and the remarks that change what figures mean."""
    lines = [f"{'subset':<8}{'queries':>10}{'items':>10}{'candidates':>12}"]
    for subset, members in subsets.items():
        items = len({caption.item_row for caption in members})
        competing = f"{len(candidates[subset]):,}" if subset in candidates else "-"
        lines.append(f"{subset:<8}{len(members):>10,}{items:>10,}{competing:>12}")
    roles = collections.Counter(caption.role for caption in subsets["train"])
    lines.append(f"items in all: {len(candidates['all']):,}; query vocabulary: {symbols:,} symbols")
    lines.append(
        f"index captions of valid and test items: {index_captions} "
        f"(trained on: {roles['train']:,} train and {roles['index']:,} index captions)"
    )
    trained = {caption.item_row for caption in subsets["train"]}
    unseen = len(candidates["all"]) - len(trained)
    if unseen:
        lines.append(f"{unseen:,} items have no training caption: only what their identifiers share leads to them")
    if held_out:
        lines.append("no valid queries given: the valid set is a fixed sample held out of the training captions")
    if not subsets["valid"]:
        lines.append("no valid queries, and nothing to hold out: training runs without validation")
    if not subsets["test"]:
        lines.append("no test queries")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    defaults = Settings()
    result = argparse.ArgumentParser(prog="python -m preprocess.binarize", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("--identifiers", type=Path, required=True, help="bundle of preprocess.build_identifiers")
    result.add_argument("--captions", type=Path, required=True, help="captions.jsonl")
    result.add_argument("--output", type=Path, required=True, help="the data-bin folder to write")
    result.add_argument(
        "--vocab-size", type=int, default=defaults.vocab_size, help="most pieces of the query vocabulary (%(default)s)"
    )
    result.add_argument(
        "--text-encoder",
        metavar="NAME|PATH",
        help="put this pretrained encoder of transformers, by its name on the hub or its folder, into the data-bin; its "
        "vocabulary is the query vocabulary then (default: none, a vocabulary is learned from the training captions)",
    )
    result.add_argument(
        "--vocabulary-from",
        type=Path,
        metavar="DATA-BIN",
        help="use the query vocabulary, or text encoder, of this data-bin, so that its checkpoints go on with the new one",
    )
    result.add_argument(
        "--embeddings",
        type=Path,
        help="embeddings of the items, or the folder that preprocess.join_captions wrote, for a model with a dense head",
    )
    result.add_argument(
        "--index-captions",
        choices=INDEX_CAPTIONS,
        default=defaults.index_captions,
        help="train on index captions of valid and test items, as the paper does, or not, or only on those that `generate_captions "
        "--captioner neighbours` borrowed from training items (%(default)s)",
    )
    result.add_argument("--seed", type=int, default=defaults.seed, help="of the held-out valid set (%(default)s)")
    result.add_argument(
        "--valid-size",
        type=int,
        help="training captions to hold out where no valid query exists (default: 5 %%, at most 1,000; 0: none)",
    )
    result.add_argument(
        "--max-query-tokens",
        type=int,
        default=defaults.max_query_tokens,
        help="longer queries are cut, end of sentence included (%(default)s)",
    )
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = vars(parser().parse_args(argv))
    identifiers, captions, output = args.pop("identifiers"), args.pop("captions"), args.pop("output")
    further = {name: args.pop(name) for name in ("vocabulary_from", "embeddings", "text_encoder")}
    binarize(identifiers, captions, output, Settings(**args), **further)


if __name__ == "__main__":
    run_script(main)
