"""The steps from raw media to figures; each does nothing where its output is there, and goes on where it was stopped.

    prepare(data_set, RAW, OUT, settings)      annotations, embeddings, generated captions: OUT/data
    train(DATA, OUT, flags, settings)          identifiers, data-bin, fairseq-train: OUT/{identifiers,data-bin,checkpoints}
    evaluate(OUT)                              search and figures: OUT/{metrics.json,run.SPLIT.trec,qrels.SPLIT.trec}

Flags that a user gives to a step come last and win. All steps but training run in this process.
"""

import contextlib
import dataclasses
import io
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import fairseq_calls
import report
from data_sets import DataSet
from defaults import identifier_flags, this_machine
from fairseq_calls import PLUGIN, check_folder
from plan import Measuring, note_trained, plan_measuring, plan_training
from schedules import RECIPES
from settings import Settings

import preprocess.annotations.__main__ as annotations
from cart_fairseq import evaluate as evaluating
from cart_fairseq import tune
from preprocess import binarize, build_identifiers, extract_embeddings, generate_captions, join_captions
from preprocess.data.inputs import read_items

BORROWED_PER_ITEM = 5


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What identifiers and data-bin are built from.

    Attributes:
        embeddings: a file, a folder of shards, or the folder of a join.
        captions: a file.
        binarize_flags: those that belong to these inputs.
    """

    embeddings: Path
    captions: Path
    binarize_flags: tuple[object, ...] = ()


def step(title: str) -> None:
    """Announce a step."""
    print(f"\n== {title}")


def call(main: Callable[[Sequence[str]], None], *arguments: object) -> None:
    """Call a command of the project with arguments of any kind; folders in them are absolute, so none reads as a flag."""
    main([str(argument) for argument in arguments])


def quietly(main: Callable[[Sequence[str]], None], *arguments: object) -> None:
    """Call a command without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        call(main, *arguments)


def prepare(data_set: DataSet, raw: Path, out: Path, settings: Settings) -> None:
    """Annotations, embeddings and generated captions of a data set: ``out/data``."""
    encoder, captioner = settings.encoder or "imagebind", settings.captioner or data_set.captioner
    step("1. annotations")
    described, embedded, data = out / "annotations", out / "embeddings", out / "data"
    flags = [*data_set.annotation_flags(raw), "--output", described]
    call(annotations.main, *flags, *settings.annotation_flags)

    step(f"2. embeddings: {encoder}")
    flags = ["--items", described / "items.jsonl", "--captions", described / "captions.jsonl", "--encoder", encoder]
    flags += ["--output", embedded, "--on-error", "skip"]
    call(extract_embeddings.main, *flags, *settings.embedding_flags)

    step(f"3. generated captions: {captioner}")
    flags = ["--items", embedded / "items.jsonl", "--captions", embedded / "captions.jsonl", "--captioner", captioner]
    flags += ["--output", data / "captions.jsonl", "--on-error", "skip"]
    if captioner.partition(":")[0] == "neighbours":
        flags += ["--embeddings", embedded / "embeddings.npy"]
    call(generate_captions.main, *flags, *data_set.caption_flags(captioner), *settings.caption_flags)
    for name in ("embeddings.npy", "items.jsonl"):  # its media paths are as valid here, one folder beside
        link(Path("..") / "embeddings" / name, data / name)
    print(f"{data}: complete")


def link(target: Path, path: Path) -> None:
    """Make `path` a symbolic link to `target`, whatever it was."""
    if not path.is_symlink() or path.readlink() != target:
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def train(data: Path, out: Path, user: Sequence[str], settings: Settings) -> None:
    """Identifiers, data-bin and training.

    Args:
        data: folder with embeddings.npy (or a folder embeddings/), items.jsonl and captions.jsonl.
        out: receives identifiers/, data-bin/ and checkpoints/; with the recipe ``joined`` also joined/.
        user: flags of ``fairseq-train``.
        settings: the recipe, and flags of the other commands.

    Raises:
        ValueError: the data are not what they should be, or ``out`` holds another model.
        FairseqFailed: training ended with an error.
    """
    check_folder(out)
    machine = this_machine(user)
    sized_for = settings.recipe or machine.name
    items = data / "items.jsonl"
    identifiers = identifier_flags(len(read_items(items)), sized_for)
    if RECIPES[sized_for].joined:
        inputs = join(data, out, settings, RECIPES[sized_for].joined)
    elif settings.text_encoder or settings.index_captions:
        raise ValueError(
            "TEXT_ENCODER and INDEX_CAPTIONS are for RECIPE=joined; leave them out, or give BINARIZE_FLAGS"
        )
    else:
        inputs = Inputs(embeddings_of(data), data / "captions.jsonl")

    step("1. identifiers")
    flags = ["--embeddings", inputs.embeddings, "--items", items, "--output", out / "identifiers", *identifiers]
    call(build_identifiers.main, *flags, *settings.identifier_flags)

    step("2. vocabulary and data")
    flags = ["--identifiers", out / "identifiers", "--captions", inputs.captions, "--output", out / "data-bin"]
    call(binarize.main, *flags, *inputs.binarize_flags, *settings.binarize_flags)

    step("3. training")
    checkpoints = out / "checkpoints"
    planned = plan_training(out, user, sized_for, machine)
    if not planned.needed:
        print(f"{checkpoints}: complete, nothing to do")
        return
    forget_figures(out)
    said = [out / "data-bin", "--user-dir", PLUGIN, "--save-dir", checkpoints, *planned.flags, *user]
    print(f"fairseq-train {shlex.join(map(str, said))}")
    fairseq_calls.train(out / "data-bin", checkpoints, [*planned.flags, *user])
    note_trained(out)


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


def join(data: Path, out: Path, settings: Settings, width: int) -> Inputs:
    """Embeddings and captions joined in ``out/joined``, with aligned rows of this width; what `train` builds on."""
    encoder, index_captions = settings.text_encoder, settings.index_captions or "include"
    known = ["--items", data / "items.jsonl", "--captions", data / "captions.jsonl"]
    joined, captions = out / "joined", data / "captions.jsonl"

    step(f"0. captions joined with embeddings: {joined}")
    flags = ["--embeddings", embeddings_of(data), *known, "--output", joined, "--align", width]
    flags += ["--text-features", encoder] if encoder else []
    flags += [] if index_captions == "include" else ["--index-captions", "exclude", "--keep-embedding"]
    call(join_captions.main, *flags, *settings.join_flags)
    if index_captions == "borrowed":
        captions = out / "captions.jsonl"
        flags = ["--captioner", "neighbours", "--embeddings", joined / "aligned.npy", "--splits", "valid", "test"]
        flags += ["--captions-per-item", BORROWED_PER_ITEM]
        call(generate_captions.main, *known, *flags, "--output", captions)
    binarize_flags = ["--embeddings", joined, "--index-captions", index_captions]
    binarize_flags += ["--text-encoder", encoder] if encoder else []
    return Inputs(joined, captions, tuple(binarize_flags))


def evaluate(out: Path, paper: Sequence[float] = ()) -> None:
    """Search for the queries and write the figures, those of the paper beside.

    Raises:
        ValueError: training is not complete.
        FairseqFailed: a search ended with an error.
    """
    check_folder(out)
    step("4. figures")
    planned = plan_measuring(out, this_machine([]))
    if planned.tuned and not (out / "tuned.json").is_file():
        flags = ["--data", out / "data-bin", "--path", planned.checkpoint, "--beam", planned.beam]
        call(tune.main, *flags, "--json", out / "tuned.json")
    for subset in planned.subsets:
        for candidates in planned.candidate_sets:
            if not (out / "results" / candidates / f"metrics.{subset}.json").is_file():
                measure(out, subset, candidates, planned)
    report.write(out, planned.checkpoint, paper)


def measure(out: Path, subset: str, candidates: str, planned: Measuring) -> None:
    """Search for all queries of a subset; ``metrics.SUBSET.json`` is written last."""
    results = out / "results" / candidates
    print(f"searching: {subset} queries, candidates: {candidates}")
    flags = [out / "data-bin", "--task", "cart_retrieval", "--path", planned.checkpoint, "--gen-subset", subset]
    flags += ["--candidates", candidates, "--beam", planned.beam, "--nbest", 10, "--batch-size", 256]
    flags += ["--required-batch-size-multiple", 1, "--num-workers", 0, "--results-path", results]
    fairseq_calls.search([*map(str, flags), *planned.device_flags], results / f"generate-{subset}.log")
    flags = [results / f"generate-{subset}.txt", "--data", out / "data-bin", "--candidates", candidates]
    if candidates == "split":
        flags += ["--trec-run", out / f"run.{subset}.trec", "--qrels", out / f"qrels.{subset}.trec"]
    quietly(evaluating.main, *flags, "--json", results / f"metrics.{subset}.json")


def train_and_evaluate(data: Path, out: Path, user: Sequence[str], settings: Settings) -> None:
    """The two last steps: from embeddings and captions to figures."""
    train(data, out, user, settings)
    evaluate(out)


def copy_parts(source: Path, names: Sequence[str], target: Path) -> None:
    """Make `target` a folder with copies of these folders of another; stopped half-way, it is not there."""
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in names:
        shutil.copytree(source / name, temporary / name, symlinks=True)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
