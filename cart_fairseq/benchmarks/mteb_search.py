"""CartSearch: runs a MODEL folder on retrieval tasks of mteb, from texts to images, sounds or videos.

It implements ``mteb.models.SearchProtocol`` of mteb 2. Importing this module needs no mteb.
"""

import importlib
import itertools
import json
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.hub_cache import snapshot_of
from cart_fairseq.base.settings import AUTO
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.loading.hub import local_folder
from cart_fairseq.measuring.trec import strictly_descending
from cart_fairseq.retriever import CartRetriever

STEPS = "preprocess.api"
"""The steps as functions. They are imported by name, because offline steps build on this package."""
MEDIA = {"image": ("Image", ".png"), "audio": ("Audio", ".wav"), "video": ("Video", ".mp4")}
"""A corpus's column with media -> the feature of `datasets` that decodes it, and the suffix of files without a name."""


class CartSearch:
    """A model that mteb evaluates: ``mteb.evaluate(CartSearch("MODEL"), tasks)``.

    The items of a task are embedded with the encoder of the MODEL folder and added to a copy of it. Only they compete.

    Args:
        model: a MODEL folder, or the name ``owner/name`` of one on the Hugging Face Hub.
        depth: number of items per query (default: the beam width). mteb asks for 1,000; a search for more items than the
            beam is wide uses a wider beam, which takes longer and may rank other items first.
        beam, device, precision, revision: see :meth:`cart_fairseq.retriever.CartRetriever.from_pretrained`.

    Raises:
        ValueError: the model has no dense head, the folder does not name its encoder, or it cannot be opened.
    """

    def __init__(
        self,
        model: str | Path,
        depth: int | None = None,
        beam: int | None = None,
        device: str | torch.device | None = None,
        precision: str = AUTO,
        revision: str | None = None,
    ):
        if depth is not None:
            check_count("depth", depth)
        self.model = Path(local_folder(model, revision))
        self._options: dict[str, Any] = {"beam": beam, "device": device, "precision": precision}
        opened = CartRetriever.from_pretrained(self.model, **self._options)
        if any(each.dense is None for each in opened.models):
            raise ValueError(
                f"{self.model}: the model has no dense head, and without one it does not know items that it was not trained "
                "on, such as those of a benchmark; train one with --dense-dim"
            )
        self._encoder = _encoder_of(opened)
        self._kinds = opened.data.manifest["encoder"].get("modalities") or list(MEDIA)
        self.depth = depth or opened.beam
        self.device = str(opened.device)
        self.state = opened.data.bundle.state
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._retriever: CartRetriever | None = None
        self._names: dict[str, str] = {}

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb records of the model: its name and revision, on the Hub or here."""
        from mteb.models import ModelMeta

        snapshot = snapshot_of(self.model)
        if snapshot is None:
            known = {"name": f"cart-fairseq/{self.model.resolve().name}", "revision": self.state[:16]}
        else:
            name = snapshot.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
            known = {"name": name, "revision": snapshot.name}
        return ModelMeta.create_empty({**known, "modalities": ["text", *self._kinds]})

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any] | None = None,
        num_proc: int | None = None,
        **_: Any,
    ) -> None:
        """Add a task's items to a copy of the MODEL folder; items of an earlier task leave.

        Args:
            corpus: a ``datasets.Dataset`` with the column ``id`` and one of ``image``, ``audio`` and ``video``.
            task_metadata: of the task, for messages.
            hf_split, hf_subset: of the task; the corpus is theirs already.
            encode_kwargs: ``batch_size`` is the number of media that the encoder embeds at a time.
            num_proc: processes that read media; None: this one.

        Raises:
            ValueError: the corpus has other columns, or a file cannot be embedded.
        """
        steps = importlib.import_module(STEPS)
        column = _media_column(corpus, task_metadata.name)
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="cart-mteb-")
        folder = Path(self._folder.name)
        copy = _copy(self.model, folder / "MODEL")
        ids = [str(each) for each in corpus["id"]]
        known = set(DataBin(copy).bundle.row_of)
        self._names = dict(zip(_free_names(known), ids, strict=False))
        _write_items(folder / "items.jsonl", self._names, corpus, column)
        settings = steps.EmbeddingSettings(
            **self._encoder,
            modality=column,
            device=self.device,
            batch_size=(encode_kwargs or {}).get("batch_size", 32),
            workers=num_proc or 0,
        )
        steps.extract_embeddings(folder / "items.jsonl", folder / "embedded", settings)
        steps.add(copy, folder / "embedded" / "embeddings.npy", folder / "embedded" / "items.jsonl")
        self._retriever = CartRetriever.from_pretrained(copy, **self._options)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """Rank the items of the last ``index``.

        Args:
            queries: a ``datasets.Dataset`` with the columns ``id`` and ``text``.
            task_metadata: of the task, for messages.
            hf_split, hf_subset: of the task; the queries are theirs already.
            top_k: the most items that the task wants for a query.
            top_ranked: of each query the ids of the items that compete; None: all.

        Returns:
            Query id -> item id -> score. The scores of a query differ, and descend with the ranks.

        Raises:
            ValueError: nothing was indexed, the queries are no texts, or ``top_ranked`` names an item that is none.
        """
        if self._retriever is None:
            raise ValueError(f"{task_metadata.name}: search without index; call index first, as mteb does")
        if "text" not in queries.column_names:
            raise ValueError(
                f"{task_metadata.name}: the queries have the columns {', '.join(queries.column_names)}; only tasks whose "
                "queries are texts can be run"
            )
        ids, texts = [str(each) for each in queries["id"]], list(queries["text"])
        wrong = next((number for number, each in zip(ids, texts, strict=True) if not isinstance(each, str)), None)
        if wrong is not None:
            raise ValueError(
                f"{task_metadata.name}: query {wrong} is no text; only tasks whose queries are texts can be run"
            )
        allowed: Any = list(self._names)
        if top_ranked is not None:
            name_of = {item: name for name, item in self._names.items()}
            allowed = [[name_of[item] for item in top_ranked[number] if item in name_of] for number in ids]
        else:
            allowed = self._retriever.candidate_set(allowed)
        found = self._retriever.search(texts, k=min(top_k, self.depth), candidates=allowed)
        return {number: self._scores(hits) for number, hits in zip(ids, found, strict=True)}

    def _scores(self, hits: Sequence[Any]) -> dict[str, float]:
        scores = strictly_descending([hit.score for hit in hits]).tolist()
        return {self._names[hit.item_id]: score for hit, score in zip(hits, scores, strict=True)}

    def close(self) -> None:
        """Remove the copy of the MODEL folder; that happens also when the object ends."""
        self._retriever = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _copy(model: Path, folder: Path) -> Path:
    """Copy a MODEL folder, which may be read-only, or links in the Hub's cache, to one that can be updated."""
    shutil.copytree(model, folder, copy_function=shutil.copyfile)
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        each.chmod(each.stat().st_mode | stat.S_IRWXU)
    return folder


def _encoder_of(opened: CartRetriever) -> dict[str, Any]:
    """The settings of the encoder that a MODEL folder names.

    Raises:
        ValueError: it names none.
    """
    named = opened.data.manifest.get("encoder")
    if not isinstance(named, dict) or not isinstance(named.get("encoder"), str):
        raise ValueError(
            f"{opened.data.root}: does not say which encoder made its embeddings, so the items of a benchmark cannot be "
            "added; extract the embeddings with preprocess.extract_embeddings, and train and export on them"
        )
    return {name: named[name] for name in ("encoder", "precision", "frames") if named.get(name) is not None}


def _media_column(corpus: Any, task: str) -> str:
    """The column of a corpus with media.

    Raises:
        ValueError: there is none, or more than one, or the items have texts, too.
    """
    columns = corpus.column_names
    media = [name for name in MEDIA if name in columns]
    if len(media) != 1:
        raise ValueError(
            f"{task}: the corpus has the columns {', '.join(columns)}, expected id and one of image, audio and video; choose "
            "a task that finds media by text"
        )
    if "text" in columns and any(corpus["text"]):
        raise ValueError(f"{task}: its items have texts beside {media[0]}; choose a task whose items are media alone")
    return media[0]


def _free_names(known: set[str]) -> Any:
    """Endless item ids that a catalogue does not have."""
    return (name for number in itertools.count() if (name := f"task {number}") not in known)


def _write_items(path: Path, names: Mapping[str, str], corpus: Any, column: str) -> None:
    """Write ``items.jsonl`` and, beside it, the media as the corpus has them, byte by byte."""
    import datasets

    feature, suffix = MEDIA[column]
    undecoded = corpus.cast_column(column, getattr(datasets, feature)(decode=False))
    folder = path.parent / "media"
    folder.mkdir()
    with open(path, "w", encoding="utf-8") as file:
        for number, (name, stored) in enumerate(zip(names, undecoded[column], strict=True)):
            if stored["bytes"] is None:
                media = Path(stored["path"]).absolute()
            else:
                media = folder / f"{number}{Path(stored['path'] or '').suffix or suffix}"
                media.write_bytes(stored["bytes"])
            file.write(json.dumps({"item_id": name, "media": str(media), "modality": column}) + "\n")
