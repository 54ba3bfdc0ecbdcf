"""The steps from data to figures; each does nothing where its output is there, and goes on where it was stopped.

    train(DATA, OUT, flags, settings)          identifiers, data-bin, fairseq-train: OUT/{identifiers,data-bin,checkpoints}
    evaluate(OUT)                              search and figures: OUT/{metrics.json,run.SPLIT.trec,qrels.SPLIT.trec}

Flags that a user gives to a step come last and win. All steps but training run in this process.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fairseq_calls
import report
from calls import Call, call, check, fixed, make, quietly, step
from defaults import TRAIN_FLAGS, identifier_flags, this_machine, train_flags, user_options
from fairseq_calls import PLUGIN, check_folder
from folders import embeddings_of, forget_figures
from lock import locked
from plan import Measuring, begun, lasting, note_trained, plan_measuring, plan_training
from schedules import RECIPES
from settings import Settings

from cart_fairseq import evaluate as evaluating
from cart_fairseq import tune
from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.retriever import CartRetriever
from preprocess import binarize, build_identifiers, generate_captions, join_captions
from preprocess.captioners.settings import CaptionSettings
from preprocess.data.inputs import read_items
from preprocess.data.output import WouldReplace, keeping_outputs
from preprocess.data_bin.settings import DataBinSettings
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.schemes.semantic import Semantic
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.join.settings import JoinSettings

BORROWED_PER_ITEM = 5
ANY_NUMBER = 1
"""Of items, in place of that of the data to come."""
ANY_DATA_BIN: dict[str, Any] = {
    "counts": {"train": {"queries": 1}, "valid": {"queries": 1}},
    "files": {"train.query-id.query.bin": {"bytes": 4}},
    "index_captions": "exclude",
}
"""A manifest in place of the one to come, so that flags can be checked before anything is made."""


class Run(NamedTuple):
    """Arguments of `train`, `train_and_evaluate` and `check_run`, which describe them."""

    data: Path
    out: Path
    flags: Sequence[str]
    settings: Settings


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


def train(data: Path, out: Path, user: Sequence[str], settings: Settings) -> None:
    """Identifiers, data-bin and training.

    Args:
        data: folder with embeddings.npy (or a folder embeddings/), items.jsonl and captions.jsonl.
        out: receives identifiers/, data-bin/ and checkpoints/; with the recipe ``joined`` also joined/.
        user: flags of ``fairseq-train``.
        settings: the recipe, and flags of the other commands.

    Raises:
        ValueError: flags or data are not what they should be, ``out`` holds another model, or another run is at work there.
            Nothing that a trained model was made from is changed then.
        FairseqFailed: training ended with an error.
    """
    check_run(data, out, user, settings)
    machine, sized_for = this_machine(user), recipe_of(out, user, settings)
    calls = calls_before_training(data, out, sized_for, settings, len(read_items(data / "items.jsonl")))
    with locked(out):
        if begun(out):
            repeat(out, calls)
        else:
            make(calls)
        step("3. training")
        checkpoints = out / "checkpoints"
        planned = plan_training(out, user, sized_for, machine)
        if not planned.needed:
            print(f"{checkpoints}: complete, nothing to do")
            return
        forget_figures(out)
        said = [
            out / "data-bin",
            "--user-dir",
            PLUGIN,
            "--save-dir",
            checkpoints,
            *overridden(planned.flags, user),
            *user,
        ]
        print(f"fairseq-train {shlex.join(map(str, said))}")
        fairseq_calls.train(out / "data-bin", checkpoints, [*planned.flags, *user])
        note_trained(out)


def overridden(flags: Sequence[str], user: Sequence[str]) -> list[str]:
    """The recipe's flags without those that the user's replace, for the eye: fairseq takes the last of each."""
    given = {flag.partition("=")[0] for flag in user if flag.startswith("--")}
    kept, keeps = [], True
    for flag in flags:
        if flag.startswith("--"):
            keeps = flag not in given
        if keeps:
            kept.append(flag)
    return kept


def repeat(out: Path, calls: Mapping[str, Call]) -> None:
    """Make the calls again after which a model was trained. They do nothing, unless an output is missing or damaged.

    Raises:
        ValueError: flags or inputs have changed. The outputs stay as they are.
    """
    for title, each in calls.items():
        try:
            with keeping_outputs():
                make({title: each})
        except WouldReplace as error:
            raise ValueError(
                f"{out / 'checkpoints'}: holds a model trained on other data ({error}: {each.variable} or the step's "
                "inputs have changed); choose another OUT, or remove this folder to train again"
            ) from None


def check_run(data: Path, out: Path, user: Sequence[str], settings: Settings, where: str = TRAIN_FLAGS) -> None:
    """Refuse flags of a run before anything is done. Its data may still be missing.

    Args:
        data, out, user, settings: see `train`.
        where: what holds the flags of ``fairseq-train``, for messages.

    Raises:
        ValueError: a command does not take its flags, a variable is set that the recipe does not read, or fairseq does
            not take the name of `out`.
    """
    check_folder(out)
    sized_for = recipe_of(out, user, settings)
    settings.check_for(sized_for)
    check(calls_before_training(data, out, sized_for, settings, ANY_NUMBER))
    check_train_flags(out, user, settings, where)


def recipe_of(out: Path, user: Sequence[str], settings: Settings) -> str:
    """The recipe: RECIPE, else that of the model that is there, else the machine's. ``--cpu`` may come and go."""
    return settings.recipe or (begun(out) or {}).get("sized_for") or this_machine(user).name


def check_train_flags(out: Path, user: Sequence[str], settings: Settings, where: str = TRAIN_FLAGS) -> None:
    """Refuse flags of ``fairseq-train`` before anything is done. Flags that this model was trained with are right.

    Args:
        out: the run.
        user: the flags.
        settings: whose recipe the other flags come from.
        where: what holds the flags, for messages.

    Raises:
        ValueError: fairseq or the recipe does not take them.
    """
    machine, before = this_machine(user), begun(out)
    try:
        lasting(user)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    user_options(user, where)
    if user and (before is None or before["call"] != list(user)):
        planned = train_flags(ANY_DATA_BIN, recipe_of(out, user, settings), machine, user)
        fairseq_calls.check_train_flags(user, planned, where)


def calls_before_training(
    data: Path, out: Path, sized_for: str, settings: Settings, item_count: int
) -> dict[str, Call]:
    """The calls that make the data-bin, each under its title.

    Raises:
        ValueError: flags of the identifiers are wrong.
    """
    items = data / "items.jsonl"
    calls: dict[str, Call] = {}
    inputs = Inputs(embeddings_of(data), data / "captions.jsonl")
    if RECIPES[sized_for].joined:
        calls, inputs = join(data, out, settings, RECIPES[sized_for].joined)
    if settings.own_start is None:
        calls["1. identifiers"] = identifying(inputs, items, out, sized_for, settings, item_count)
    flags = ["--identifiers", out / "identifiers", "--captions", inputs.captions, "--output", out / "data-bin"]
    flags += inputs.binarize_flags
    set_here = fixed("identifiers", "captions", "output")
    user = settings.binarize_flags
    if settings.own_start is not None:
        user = (
            *user,
            "--vocabulary-from",
            str(settings.own_start / "data-bin"),
            "--text-encoder",
            "",
            "--valid-size",
            "0",
        )
    elif inputs.binarize_flags:
        set_here |= fixed("embeddings", index_captions="set INDEX_CAPTIONS", text_encoder="set TEXT_ENCODER")
    calls["2. vocabulary and data"] = Call(binarize, DataBinSettings, flags, "BINARIZE_FLAGS", user, set_here)
    return calls


def identifying(inputs: Inputs, items: Path, out: Path, sized_for: str, settings: Settings, item_count: int) -> Call:
    """The call that builds the identifiers, with the captions where these name the items.

    Raises:
        ValueError: flags are wrong.
    """
    own = ["--embeddings", inputs.embeddings, "--items", items, "--output", out / "identifiers"]
    result = Call(
        build_identifiers,
        IdentifierSettings,
        [*own, *settings.own_identifiers],
        "IDENTIFIER_FLAGS",
        settings.identifier_flags,
        fixed("embeddings", "items", "output", "captions"),
    )
    before, scheme = begun(out), SCHEMES[result.check().scheme]
    if scheme.name == Semantic.name:
        own += ["--captions", inputs.captions]
    # identifiers of a model that an earlier version began stay as they are: the model knows no others
    published = scheme.published and (before is None or before.get("faithful", False))
    sizes = identifier_flags(item_count, sized_for, published)
    return dataclasses.replace(result, own=[*own, *sizes, *settings.own_identifiers])


def join(data: Path, out: Path, settings: Settings, width: int) -> tuple[dict[str, Call], Inputs]:
    """The calls that join embeddings and captions in ``out/joined``, with aligned rows of this width.

    Returns:
        The calls under their titles, and what `train` builds on.
    """
    encoder, index_captions = settings.text_encoder, settings.index_captions or "include"
    known = ["--items", data / "items.jsonl", "--captions", data / "captions.jsonl"]
    joined, captions = out / "joined", data / "captions.jsonl"
    flags = ["--embeddings", embeddings_of(data), *known, "--output", joined]
    flags += [] if index_captions == "include" else ["--index-captions", "exclude"]
    if settings.own_start is not None:
        flags += ["--like", settings.own_start / "joined"]
    else:
        flags += ["--align", width, "--keep-embedding"]
        flags += ["--text-features", encoder] if encoder else settings.own_join
    set_here = fixed(
        "embeddings", "items", "captions", "output", index_captions="set INDEX_CAPTIONS", like="leave it out"
    )
    user = () if settings.own_start is not None else settings.join_flags  # fitted parts come with their flags
    calls = {
        f"0. captions joined with embeddings: {joined}": Call(
            join_captions, JoinSettings, flags, "JOIN_FLAGS", user, set_here
        )
    }
    if index_captions == "borrowed":
        captions = out / "captions.jsonl"
        flags = ["--captioner", "neighbours", "--embeddings", joined / "aligned.npy", "--splits", "valid", "test"]
        flags += [*known, "--captions-per-item", BORROWED_PER_ITEM, "--output", captions]
        calls["0. captions borrowed from near items"] = Call(
            generate_captions, CaptionSettings, flags, "INDEX_CAPTIONS"
        )
    binarize_flags = ["--embeddings", joined, "--index-captions", index_captions]
    binarize_flags += ["--text-encoder", encoder] if encoder else []
    return calls, Inputs(joined, captions, tuple(binarize_flags))


def evaluate(out: Path, paper: Sequence[float] = (), least_queries: int = 0) -> None:
    """Search for the queries and write the figures, those of the paper beside.

    Args:
        out: the run.
        paper: figures to print beside.
        least_queries: with fewer valid queries nothing is chosen on them: the weights of searches are the recipe's.

    Raises:
        ValueError: training is not complete, or another run is at work there.
        FairseqFailed: a search ended with an error.
    """
    check_folder(out)
    step("4. figures")
    planned = plan_measuring(out, this_machine([]))
    with locked(out):
        if planned.tuned and not (out / "tuned.json").is_file():
            flags = ["--data", out / "data-bin", "--path", planned.checkpoint]
            queries = read_json(out / "data-bin" / "manifest.json")["counts"]["valid"]["queries"]
            if queries < least_queries:
                print(f"too few valid queries to choose weights on ({queries}): those of the recipe stay")
                flags += ["--discounts", 1, "--shares", 0, "--weights", RECIPES["joined"].dense_weight]
            call(tune.main, *flags, "--json", out / "tuned.json")
        for subset in planned.subsets:
            for candidates in planned.candidate_sets:
                if not (out / "results" / candidates / f"metrics.{subset}.json").is_file():
                    measure(out, subset, candidates, planned)
        report.write(out, planned.checkpoint, paper)


def precision_of(out: Path, planned: Measuring) -> str:
    """The precision of all searches of a run, chosen once: ``OUT/results/precision.json``."""
    path = out / "results" / report.PRECISION
    if not path.is_file():
        device = "cpu" if "--cpu" in planned.device_flags else None
        where: dict[str, Any] = {"device": device, "precision": planned.precision}
        retriever = CartRetriever.from_pretrained(planned.checkpoint, out / "data-bin", **where)
        path.parent.mkdir(exist_ok=True)
        write_json(path, retriever.models[0].precision)
    return str(read_json(path))


def measure(out: Path, subset: str, candidates: str, planned: Measuring) -> None:
    """Search for all queries of a subset; ``metrics.SUBSET.json`` is written last."""
    results = out / "results" / candidates
    print(f"searching: {subset} queries, candidates: {candidates}")
    flags = [out / "data-bin", "--task", "cart_retrieval", "--path", planned.checkpoint, "--gen-subset", subset]
    flags += ["--candidates", candidates, "--beam", planned.beam, "--nbest", 10, "--batch-size", 256]
    flags += ["--inference-precision", precision_of(out, planned)]
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
