"""The step `generate_captions` (CART 3.3, caption enhancement): captions that stand in for the content of items.

The output has the old captions, unchanged, followed by the new ones, with role `index` and the captioner as `source`.
An interrupted run continues from `OUTPUT.partial/` when it is repeated, with the same result.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import digest, sha256, write_json
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import read_json
from preprocess.captioners.caption_folding import fresh, known_captions, new_caption_ids
from preprocess.captioners.caption_log import CaptionLog, Record
from preprocess.captioners.captioner import Captioner, Target
from preprocess.captioners.families import CaptionerName, named
from preprocess.captioners.models import load_model
from preprocess.captioners.neighbours import NeighbourCaptioner
from preprocess.captioners.settings import CaptionSettings
from preprocess.captioners.targets import targets_of, within_reach
from preprocess.data.embeddings import Embeddings, check_embeddings, open_embeddings
from preprocess.data.fields import BORROWED
from preprocess.data.inputs import match_items, read_captions, read_items
from preprocess.data.joined_folder import identifier_rows, refuse_other_items
from preprocess.data.output import Kind, Made, Output
from preprocess.data.roles import Caption, resolve
from preprocess.encoders.loading import weights_stamp
from preprocess.media.folder import refuse_outside

LOG = "batches.jsonl"
SHOWN = 3
COUNTS = ("source", "items", "captions", "without_new_caption", "of_other_modalities")


@dataclass(frozen=True)
class GeneratedCaptions:
    """What `generate_captions` has done.

    Attributes:
        path: the file of captions.
        report: the report beside it.
        is_new: False if they were there already, made from the same inputs and settings.
        items: number of items that the captioner was asked for.
        captions: number of new captions.
        skipped: item id -> why the item has no new caption.
        summary: the result as text.
    """

    path: Path
    report: Path
    is_new: bool
    items: int
    captions: int
    skipped: Mapping[str, str]
    summary: str


@dataclass(frozen=True)
class Source:
    """What captions are made from.

    Attributes:
        items_path, captions_path: the files.
        items: the objects of items.jsonl.
        captions: of captions.jsonl, with their roles.
        embeddings: (N, D) of the items, for the captioner `neighbours`; else None.
        made_from: checksums of the inputs.
    """

    items_path: Path
    captions_path: Path | None
    items: list[dict[str, Any]]
    captions: list[Caption]
    embeddings: Embeddings | None
    made_from: dict[str, Any]


@checks_settings
def generate_captions(
    items: str | Path,
    captions: str | Path | None,
    output: str | Path,
    settings: CaptionSettings,
    *,
    embeddings: str | Path | None = None,
) -> GeneratedCaptions:
    """Write captions of items. If `output` was made from the same inputs and settings, nothing is done.

    Args:
        items: `items.jsonl`; media are relative to it.
        captions: `captions.jsonl` of these items. The new captions follow them in `output`. None: the items have none.
        output: the file to write. Its report, with the suffix `.report.json`, lies beside it.
        settings: see `CaptionSettings`.
        embeddings: (N, D) of the items, or the folder of a join; required by, and only valid with, the captioner
            `neighbours`.

    Raises:
        ValueError: an input is wrong; the captioner cannot be loaded, or can caption none of the items; media cannot be
            read and `on_error` is `fail`; `output` was not written by this step, or is being written by another run.
    """
    name = named(settings.captioner)
    if (name.family == BORROWED) != (embeddings is not None):
        raise ValueError(
            f"--captioner {settings.captioner}: --embeddings is required by, and only valid with, "
            f"--captioner {BORROWED}"
        )
    out = Output(output, CAPTIONS)
    if captions is not None and out.path.resolve() == Path(captions).resolve():
        raise ValueError(f"{out.path}: --output is --captions; write the result to another file")
    if captions is None and embeddings is not None:
        raise ValueError(f"--captioner {BORROWED}: lends captions of training items; give them as --captions")
    source = open_source(Path(items), Path(captions) if captions else None, embeddings, settings)
    asked = asked_for(name, settings)
    key = digest([name.source, source.made_from, asked])
    if out.is_current(key):
        report = read_json(out.record)
        if settings.on_error == "fail":
            refuse_skipped(report["skipped"], out.path)
        return described(out, report, False)
    with out.working(key) as work:
        log = CaptionLog(work / LOG)
        if settings.on_error == "fail":
            refuse_skipped(skipped_of(log), out.path)
        captioner = open_captioner(name, source, settings)
        everyone = targets_of(source.items, source.items_path.parent, settings.splits)
        targets = within_reach(everyone, captioner, settings, source.items_path)
        caption_all(captioner, targets, known_captions(source.captions), settings, log)
        with out.replacing() as new:
            report = {
                "source": name.source,
                "items": len(targets),
                "captions": write_captions(new, source, log.records, name),
                "without_new_caption": sum(not record.texts and not record.error for record in log.records),
                "of_other_modalities": len(everyone) - len(targets),
                "key": key,
                "sha256": sha256(new),
                "settings": {**asked, "splits": settings.splits},
                "skipped": skipped_of(log),
            }
            write_json(out.record, report)  # the report first, because an output without one is refused
    return described(out, report, True)


def read_made(path: Path) -> Made:
    """Return the key and the checksum of captions, from the report beside them."""
    report = read_json(report_of(path))
    if not isinstance(report, dict) or not {"key", "sha256"} <= report.keys():
        raise ValueError(f"{report_of(path)}: not a report of preprocess.generate_captions")
    return Made(report["key"], {path: report["sha256"]})


def report_of(path: Path) -> Path:
    """Return the path of the report beside captions."""
    return path.with_suffix(".report.json")


CAPTIONS = Kind("captions", read_made, report_of, folder=False)


def open_source(items: Path, captions: Path | None, embeddings: str | Path | None, settings: CaptionSettings) -> Source:
    """Open and check the inputs; see `generate_captions`."""
    rows = read_items(items)
    refuse_outside(rows, items, settings.media_within)
    row_of = {item["item_id"]: row for row, item in enumerate(rows)}
    splits = [item.get("split") for item in rows]
    resolved = resolve(read_captions(captions, rows), row_of, splits, str(captions)) if captions else []
    made_from: dict[str, Any] = {
        "items": sha256(items),
        "captions": sha256(captions) if captions else None,
        "splits": settings.splits,
    }
    found = None
    if embeddings is not None:
        refuse_other_items(Path(embeddings), row_of, items)
        embeddings = identifier_rows(Path(embeddings))
        found = open_embeddings(embeddings, check=False)
        match_items(found, rows, embeddings, items)
        made_from["embeddings"] = check_embeddings(found, embeddings)
    else:
        made_from["weights"] = weights_stamp(settings.captioner)
    return Source(items, captions, rows, resolved, found, made_from)


def asked_for(name: CaptionerName, settings: CaptionSettings) -> dict[str, Any]:
    """Return the settings that influence the captions, as the report records them."""
    if name.family == BORROWED:
        return {"captions": settings.captions_per_item, "neighbours": settings.neighbours}
    drawing = ("temperature", "top_p", "seed", "max_new_tokens", "prompt", "frames")
    return {
        "captions": settings.captions_per_item,
        **{field: getattr(settings, field) for field in drawing},
        "name": name.checkpoint,
        "precision": settings.precision,
    }


def open_captioner(name: CaptionerName, source: Source, settings: CaptionSettings) -> Captioner:
    """Return the captioner that the settings name."""
    if source.embeddings is not None:
        return NeighbourCaptioner(source.embeddings, source.captions, settings.neighbours)
    return load_model(name, settings.device, settings.precision, settings)


def caption_all(
    captioner: Captioner,
    targets: Sequence[Target],
    known: Mapping[int, set[str]],
    settings: CaptionSettings,
    log: CaptionLog,
) -> None:
    """Caption every item that is not in the log yet, batch by batch.

    Args:
        known: see `known_captions`.
        log: the log, to which the results are appended.

    Raises:
        ValueError: media cannot be read, and `on_error` is `fail`.
    """

    def load(target: Target) -> tuple[Any, str | None]:
        try:
            return captioner.load(target), None
        except ValueError as error:
            if settings.on_error == "fail":
                raise
            return None, str(error)

    size = settings.batch_size or captioner.batch_size
    done = {record.item_id for record in log.records}
    pending = [target for target in targets if target.item_id not in done]
    announced = f"{len(pending):,} items, {size} at a time; the time left follows after the first ones"
    with (
        ThreadPoolExecutor(settings.workers) as pool,
        Progress(len(targets), "captioning", "items", len(targets) - len(pending), announced) as progress,
    ):
        for start in range(0, len(pending), size):
            batch = pending[start : start + size]
            loaded = list(pool.map(load, batch))
            good = [(target, media) for target, (media, error) in zip(batch, loaded, strict=True) if error is None]
            found = iter(captioner.caption([t for t, _ in good], [media for _, media in good]) if good else [])
            records = []
            for target, (_, error) in zip(batch, loaded, strict=True):
                texts = [] if error else fresh(next(found), known.get(target.row, ()), settings.captions_per_item)
                records.append(Record(target.item_id, texts, error))
            log.add(records)
            progress.update(len(batch))


def write_captions(path: Path, source: Source, records: Sequence[Record], name: CaptionerName) -> int:
    """Write the old captions, unchanged, and the new ones. Return the number of new ones."""
    taken, count = {caption.query_id for caption in source.captions}, 0
    with open(path, "wb") as file:
        if source.captions_path is not None:
            file.write(source.captions_path.read_bytes().rstrip() + b"\n")
        for record in records:
            ids = new_caption_ids(record.item_id, name.family, len(record.texts), taken)
            for caption_id, text in zip(ids, record.texts, strict=True):
                row = {"item_id": record.item_id, "text": text, "role": "index", "source": name.source}
                file.write(json.dumps(row | {"caption_id": caption_id}, ensure_ascii=False).encode() + b"\n")
            count += len(ids)
    return count


def skipped_of(log: CaptionLog) -> list[dict[str, str]]:
    """Return the items of a log whose media could not be read."""
    return [{"item_id": record.item_id, "error": record.error} for record in log.records if record.error]


def refuse_skipped(skipped: Sequence[Mapping[str, str]], output: Path) -> None:
    """Refuse to continue a run that skipped items, if `on_error` is `fail` now."""
    if skipped:
        raise ValueError(
            f"{skipped[0]['error']} ({len(skipped)} items were skipped by an earlier run; repair them and remove "
            f"{output} and {output}.partial to caption again, or use --on-error skip)"
        )


def described(out: Output, report: Mapping[str, Any], is_new: bool) -> GeneratedCaptions:
    """Return the result that a report describes. If it is new, print the skipped items on stderr."""
    skipped = {item["item_id"]: item["error"] for item in report["skipped"]}
    if not is_new:
        summary = f"{out.path}: up to date (same inputs, captioner and settings), nothing to do"
    else:
        lines = [f"{name.replace('_', ' ')}: {report[name]}" for name in COUNTS]
        summary = "\n".join([*lines, f"wrote {out.path}"])
        if skipped:
            print(f"skipped {len(skipped)} items whose media cannot be read (see {out.record}):", file=sys.stderr)
            print("\n".join([*skipped.values()][:SHOWN]), file=sys.stderr)
    return GeneratedCaptions(out.path, out.record, is_new, report["items"], report["captions"], skipped, summary)
