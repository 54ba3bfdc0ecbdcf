"""Caption enhancement (CART 3.3): captions that stand in for the content of items, `python -m preprocess.generate_captions`.

    --captioner blip | blip2 | image-text-to-text | whisper  [:NAME_OR_PATH]   a pretrained model of that family
    --captioner neighbours --embeddings E.npy                                  borrowed from near training items

The result is the old captions, as they were, and the new ones: role `index`, `source` the captioner. Run again with
another captioner on the result, for items of other modalities. `preprocess.captioners` says which family takes which.
What a killed run had done is in OUTPUT.partial/, and the same command goes on from it, with the same result.
"""

import argparse
import dataclasses
import json
import mimetypes
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cart_fairseq.files import digest, read_json, replacing, run_script, sha256, write_json
from cart_fairseq.progress import Progress
from preprocess import captioners
from preprocess.captioners import Captioner, NeighbourCaptioner, Settings, Target
from preprocess.captioners.caption_folding import fresh, known_captions, new_caption_ids
from preprocess.captioners.caption_log import CaptionLog, Record
from preprocess.data.arguments import positive
from preprocess.data.embeddings import check_embeddings, open_embeddings
from preprocess.data.fields import BORROWED, MODALITIES, SPLITS
from preprocess.data.inputs import match_items, read_captions, read_items
from preprocess.data.roles import resolve
from preprocess.data.working_folder import remove, remove_leftovers, working_folder
from preprocess.encoders import weights_stamp

LOG = "batches.jsonl"
SHOWN = 3


def targets_of(items: Sequence[dict[str, Any]], folder: Path, splits: Sequence[str] | None) -> list[Target]:
    """The items to caption: those of some splits, or all.

    Args:
        folder: what `media` are relative to.
    """
    targets = []
    for row, item in enumerate(items):
        if splits is None or item.get("split") in splits:
            media = folder / item["media"] if item.get("media") else None
            targets.append(Target(row, item["item_id"], item.get("modality") or modality_of(media), media))
    return targets


def modality_of(media: Path | None) -> str | None:
    """What a file holds, by its name; None where that does not tell.

    >>> modality_of(Path("a/rain.wav")), modality_of(Path("notes.txt"))
    ('audio', None)
    """
    kind = (mimetypes.guess_type(media.name)[0] or "").partition("/")[0] if media else ""
    return kind if kind in MODALITIES else None


def caption_all(
    captioner: Captioner,
    targets: Sequence[Target],
    known: dict[int, set[str]],
    settings: Settings,
    log: CaptionLog,
    batch_size: int,
    workers: int,
    on_error: str,
) -> None:
    """Caption every item that the log does not have yet, batch by batch.

    Args:
        known: see `known_captions`.
        log: where the results go.
        workers: threads that read media.
        on_error: `fail`, or `skip`: an item whose media cannot be read gets no captions, and the log says why.

    Raises:
        ValueError: media cannot be read, with `fail`.
    """

    def load(target: Target) -> tuple[Any, str | None]:
        try:
            return captioner.load(target), None
        except ValueError as error:
            if on_error == "fail":
                raise
            return None, str(error)

    done = {record.item_id for record in log.records}
    pending = [target for target in targets if target.item_id not in done]
    with (
        ThreadPoolExecutor(workers) as pool,
        Progress(len(targets), "captioning", "items", len(targets) - len(pending)) as progress,
    ):
        for start in range(0, len(pending), batch_size):
            batch = pending[start : start + batch_size]
            loaded = list(pool.map(load, batch))
            good = [(target, media) for target, (media, error) in zip(batch, loaded, strict=True) if error is None]
            found = iter(captioner.caption([t for t, _ in good], [media for _, media in good]) if good else [])
            records = []
            for target, (_, error) in zip(batch, loaded, strict=True):
                texts = [] if error else fresh(next(found), known.get(target.row, ()), settings.captions)
                records.append(Record(target.item_id, texts, error))
            log.add(records)
            progress.update(len(batch))


def write_captions(path: Path, captions: Path, records: Sequence[Record], source: str, taken: set[str]) -> int:
    """Write the old captions, unchanged, and the new ones.

    Args:
        captions: the file of the old ones.
        source: what the new ones give as theirs.
        taken: caption ids that are in use.

    Returns:
        The number of the new ones.
    """
    family, count = source.partition(":")[0], 0
    with open(path, "wb") as file:
        file.write(captions.read_bytes().rstrip() + b"\n")
        for record in records:
            names = new_caption_ids(record.item_id, family, len(record.texts), taken)
            for name, text in zip(names, record.texts, strict=True):
                row = {"item_id": record.item_id, "text": text, "role": "index", "source": source, "caption_id": name}
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += len(names)
    return count


def is_current(output: Path, report: Path, key: str) -> bool:
    """Whether `output` is there, undamaged, and made from the same inputs with the same settings.

    Raises:
        ValueError: `output` is there and was not made by this command.
    """
    if not output.exists():
        return False
    if not output.is_file() or not report.is_file():
        raise ValueError(f"{output}: exists and was not made by this command; remove it or choose another --output")
    found = read_json(report)
    return isinstance(found, dict) and found.get("key") == key and found.get("sha256") == sha256(output)


def refuse_skipped(skipped: Sequence[dict[str, str]], output: Path) -> None:
    """With `--on-error fail`, nothing goes on from a run that has skipped items."""
    if skipped:
        raise ValueError(
            f"{skipped[0]['error']} ({len(skipped)} items were skipped by an earlier run; mend them and remove {output} "
            f"and {output}.partial to caption again, or use --on-error skip)"
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.generate_captions",
        description=(captioners.__doc__ or "") + (__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--items", type=Path, required=True, help="items.jsonl; media are relative to it")
    add("--captions", type=Path, required=True, help="captions.jsonl of these items")
    add("--captioner", required=True, metavar="FAMILY[:NAME_OR_PATH]", help=f"one of {', '.join(captioners.FAMILIES)}")
    add("--output", type=Path, required=True, help="captions.jsonl to write; OUTPUT with .report.json lies beside it")
    add("--embeddings", type=Path, help="neighbours: embeddings of the items, row i for line i")
    neighbours = f"neighbours: training items that an item borrows from ({captioners.NEIGHBOURS})"
    add("--neighbours", type=positive, default=captioners.NEIGHBOURS, metavar="K", help=neighbours)
    add("--captions-per-item", type=positive, default=defaults.captions, metavar="N", help="at most (5)")
    add("--temperature", type=float, default=defaults.temperature, help="of the draws (1)")
    add("--top-p", type=float, default=defaults.top_p, help="tokens are drawn from this much of the mass (0.9)")
    add("--max-new-tokens", type=positive, default=defaults.max_new_tokens, help="longest caption, in tokens (50)")
    prompt = "what the model is told: for blip and blip2, how captions begin; for whisper, the style (family's default)"
    add("--prompt", help=prompt)
    frames = "image-text-to-text: frames of a video in one message (4); other families see one frame a caption"
    add("--frames", type=positive, default=defaults.frames, help=frames)
    add("--seed", type=int, default=defaults.seed, help="of the draws (1)")
    add("--splits", nargs="+", choices=SPLITS, help="caption the items of these splits only (all items)")
    add("--batch-size", type=positive, help="items at a time (by family); less where memory is short")
    add("--workers", type=positive, default=4, help="threads that read media (4)")
    add("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    add("--precision", choices=captioners.PRECISIONS, default="float32", help="of the model (float32)")
    on_error = "an item without readable media: fail (default), or skip: list it in the report and go on"
    add("--on-error", choices=("skip", "fail"), default="fail", help=on_error)
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"argument --seed: {args.seed} is negative")
    if not args.temperature > 0:
        parser.error(f"argument --temperature: {args.temperature} is not above 0")
    if not 0 < args.top_p <= 1:
        parser.error(f"argument --top-p: {args.top_p} is not above 0 and at most 1")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parse(argv)
    family, name = captioners.named(args.captioner)
    if (family == BORROWED) != (args.embeddings is not None):
        raise ValueError(f"--captioner {args.captioner}: --embeddings belongs to neighbours, which cannot do without")
    if args.output.resolve() == args.captions.resolve():
        raise ValueError(f"{args.output}: --output is --captions; write the result to another file")
    source = captioners.source_of(family, name)
    settings = Settings(
        captions=args.captions_per_item,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=args.seed,
        max_new_tokens=args.max_new_tokens,
        prompt=args.prompt,
        frames=args.frames,
    )
    items = read_items(args.items)
    row_of = {item["item_id"]: row for row, item in enumerate(items)}
    rows = read_captions(args.captions, items)
    captions = resolve(rows, row_of, [item.get("split") for item in items], str(args.captions))
    inputs: dict[str, Any] = {"items": sha256(args.items), "captions": sha256(args.captions), "splits": args.splits}
    if args.embeddings:
        embeddings = open_embeddings(args.embeddings, check=False)
        match_items(embeddings, items, args.embeddings, args.items)
        inputs["embeddings"] = check_embeddings(embeddings, args.embeddings)
        asked = {"captions": settings.captions, "neighbours": args.neighbours}
    else:
        asked = {**dataclasses.asdict(settings), "name": name, "precision": args.precision}
        inputs["weights"] = weights_stamp(args.captioner)
    key = digest([source, inputs, asked])

    report = args.output.with_suffix(".report.json")
    if is_current(args.output, report, key):
        if args.on_error == "fail":
            refuse_skipped(read_json(report)["skipped"], args.output)
        remove_leftovers(args.output)
        print(f"{args.output}: up to date (same inputs, captioner and settings), nothing to do")
        return
    with working_folder(args.output, key) as work:
        log = CaptionLog(work / LOG)
        if args.on_error == "fail":
            refuse_skipped(skipped_of(log), args.output)
        captioner: Captioner
        if args.embeddings:
            captioner = NeighbourCaptioner(embeddings, captions, args.neighbours)
        else:
            captioner = captioners.load_model(family, name, args.device, args.precision, settings)
        everyone = targets_of(items, args.items.parent, args.splits)
        able = captioner.modalities
        targets = [target for target in everyone if able is None or target.modality in able]
        if not targets:
            fields = {"modality": sorted(able or ()), "split": args.splits or ()}
            wanted = ", ".join(f"{field} {' or '.join(values)}" for field, values in fields.items() if values)
            raise ValueError(
                f"{args.items}: no item that {args.captioner} can caption ({wanted}); give the items their "
                f"{' and '.join(field for field, values in fields.items() if values)}"
            )
        batch_size = args.batch_size or captioner.batch_size
        known = known_captions(captions)
        caption_all(captioner, targets, known, settings, log, batch_size, args.workers, args.on_error)
        skipped = skipped_of(log)
        with replacing(args.output) as new:
            taken = {caption.query_id for caption in captions}
            summary = {
                "source": source,
                "items": len(targets),
                "captions": write_captions(new, args.captions, log.records, source, taken),
                "without_new_caption": sum(not record.texts and not record.error for record in log.records),
                "of_other_modalities": len(everyone) - len(targets),
            }
            made = {"key": key, "sha256": sha256(new), "settings": {**asked, "splits": args.splits}}
            write_json(report, {**summary, **made, "skipped": skipped})  # first: an output without one is not ours
        remove(work)
    print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()))
    if skipped:
        print(f"skipped {len(skipped)} items whose media cannot be read (see {report}):", file=sys.stderr)
        print("\n".join(item["error"] for item in skipped[:SHOWN]), file=sys.stderr)
    print(f"wrote {args.output}")


def skipped_of(log: CaptionLog) -> list[dict[str, str]]:
    """Items that a log has errors of."""
    return [{"item_id": record.item_id, "error": record.error} for record in log.records if record.error]


if __name__ == "__main__":
    run_script(main)
