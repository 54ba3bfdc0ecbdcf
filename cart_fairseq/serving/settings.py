"""Settings of the service, with the default of every flag. Imports only the standard library."""

from dataclasses import dataclass
from pathlib import Path

from cart_fairseq.base.checks import Settings, check_count
from cart_fairseq.base.settings import AUTO, check_search

MIB = 1 << 20


@dataclass(frozen=True)
class ServingSettings(Settings):
    """Settings of the service. Every field is also a flag of ``cart_fairseq.serve``.

    Attributes:
        data: the data-bin. Of a MODEL folder it is the folder itself.
        path: the checkpoint, or an ensemble ``a.pt:b.pt``. None: items are found by example alone.
        host, port: the address to listen on; port 0 takes a free one.
        media_root: only files in this folder are served. None: no media.
        media_base: the folder that the items' ``media`` are relative to. None: ``media_root``.
        token_file: a file with the token that clients must send. None: no token is asked for.
        beam, precision, device: of the search, see :meth:`cart_fairseq.retriever.CartRetriever.from_pretrained`.
        max_batch: the largest number of queries of several requests in one search.
        batch_wait_ms: the longest time in milliseconds that the first request of a batch waits for others.
        queue: the largest number of queries that wait; what comes on top is refused.
        timeout: seconds in which a request is answered, or refused.
        max_k: the largest number of items that a query may ask for.
        max_body_mib: the largest size of a JSON body in MiB.
        max_upload_mib: the largest size of an uploaded media file in MiB.
        poll: seconds between two looks at the data-bin and the checkpoint; 0: they are not looked at again.
        drain: seconds between SIGTERM and the end of listening, in which ``/readyz`` says 503.
        model: a MODEL folder, in place of ``data`` and ``path``; or ``owner/name`` of one on the Hugging Face Hub.
        revision: branch, tag or commit of a model on the Hub. None: ``main``.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    data: str | Path = ""
    path: str | Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    media_root: str | Path | None = None
    media_base: str | Path | None = None
    token_file: str | Path | None = None
    beam: int | None = None
    precision: str = AUTO
    device: str | None = None
    max_batch: int = 32
    batch_wait_ms: float = 5.0
    queue: int = 128
    timeout: float = 30.0
    max_k: int = 200
    max_body_mib: int = 8
    max_upload_mib: int = 64
    poll: float = 0.5
    drain: float = 1.0
    model: str | Path | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None:
            if self.path is not None or str(self.data) not in ("", str(self.model)):
                raise ValueError("--model holds a model and its catalogue; leave out --data and --path")
            object.__setattr__(self, "data", self.model)
        elif self.revision is not None:
            raise ValueError("--revision is of a model on the Hub; give its name with --model, or leave --revision out")
        if not str(self.data):
            raise ValueError("neither --data nor --model is given; give a data-bin, or a MODEL folder")
        check_search(self.beam, precision=self.precision)
        for name in ("max_batch", "queue", "max_k", "max_body_mib", "max_upload_mib"):
            check_count(f"--{name.replace('_', '-')}", getattr(self, name))
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"--port is {self.port}; it must be from 0 to 65535")
        if self.timeout <= 0:
            raise ValueError(f"--timeout is {self.timeout:g}; it must be above 0")
        for name in ("batch_wait_ms", "poll", "drain"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name):g}; it must be at least 0")
        if self.media_base is not None and self.media_root is None:
            raise ValueError("--media-base needs --media-root, the folder whose files may be served; give both")
        for name in ("media_root", "media_base"):
            folder = getattr(self, name)
            if folder is not None and not Path(folder).is_dir():
                raise ValueError(f"--{name.replace('_', '-')} is {str(folder)!r}: no such folder; check the path")
