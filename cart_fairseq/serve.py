"""Serves searches over HTTP: a page with a search box, JSON, media and metrics.

python -m cart_fairseq.serve --data data-bin --path checkpoints/checkpoint_best.pt --media-root images
python -m cart_fairseq.serve --model MODEL --media-root images
"""

import argparse
from collections.abc import Sequence

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.settings import PRECISIONS
from cart_fairseq.serving.settings import ServingSettings


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=program("cart_fairseq.serve"),
        description="Serve searches over HTTP. The catalogue and the checkpoint may change meanwhile.",
    )
    add, default = made.add_argument, ServingSettings
    add("--data", default=default.data, metavar="DIR", help="the data-bin; nothing is written into it")
    path = "the checkpoint, or the ensemble a.pt:b.pt; without it items are found by example alone, not by text"
    add("--path", metavar="CKPT", help=path)
    model = (
        "a folder of cart_fairseq.export, in place of --data and --path, or owner/name of one on the Hugging Face Hub; "
        "nothing is written into it"
    )
    add("--model", metavar="DIR", help=model)
    revision = "branch, tag or commit of a model on the Hub (default: main)"
    add("--revision", metavar="REV", help=revision)
    add(
        "--host",
        default=default.host,
        help="address to listen on; 0.0.0.0: every one of this machine (default: %(default)s)",
    )
    add("--port", type=int, default=default.port, metavar="N", help="port; 0: a free one (default: %(default)s)")
    add(
        "--media-root",
        metavar="DIR",
        help="folder of the items' media; only files in it are served (default: no media)",
    )
    add(
        "--media-base", metavar="DIR", help="folder that the items' media paths are relative to (default: --media-root)"
    )
    add("--token-file", metavar="FILE", help="a file with a token of at least 16 characters, which clients must send")
    add("--beam", type=int, metavar="N", help="beam width (default: 30)")
    add("--precision", choices=PRECISIONS, default=default.precision, help="of the search (default: %(default)s)")
    add("--device", help="device of the search (default: a GPU if there is one)")
    waits = "the longest time in milliseconds that a query waits for others, to be searched with them (default: %(default)s)"
    add(
        "--max-batch",
        type=int,
        default=default.max_batch,
        metavar="N",
        help="queries in one search (default: %(default)s)",
    )
    add("--batch-wait-ms", type=float, default=default.batch_wait_ms, metavar="MS", help=waits)
    full = "queries that may wait; above, the answer is 429 with Retry-After (default: %(default)s)"
    add("--queue", type=int, default=default.queue, metavar="N", help=full)
    add(
        "--timeout",
        type=float,
        default=default.timeout,
        metavar="S",
        help="seconds for a request (default: %(default)s)",
    )
    add(
        "--max-k",
        type=int,
        default=default.max_k,
        metavar="N",
        help="items that a query may ask for (default: %(default)s)",
    )
    body, upload = default.max_body_mib, default.max_upload_mib
    add("--max-body-mib", type=int, default=body, metavar="N", help="largest JSON in MiB (default: %(default)s)")
    add(
        "--max-upload-mib",
        type=int,
        default=upload,
        metavar="N",
        help="largest media file in MiB (default: %(default)s)",
    )
    polls = "seconds between two looks for a new catalogue or checkpoint; 0: none (default: %(default)s)"
    add("--poll", type=float, default=default.poll, metavar="S", help=polls)
    drains = "seconds after SIGTERM in which /readyz says 503 and searches are still accepted (default: %(default)s)"
    add("--drain", type=float, default=default.drain, metavar="S", help=drains)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        ValueError: a setting is wrong, or data-bin or checkpoint are missing or damaged; or the extra is not installed.
    """
    settings = ServingSettings(**vars(parser().parse_args(argv)))
    try:
        from cart_fairseq.serving.web.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("cart_fairseq", "torch"):
            raise
        raise ValueError(f"{error.name} is not installed; pip install 'cart-fairseq[serve]'") from None
    serve(settings)


if __name__ == "__main__":
    run_script(main)
