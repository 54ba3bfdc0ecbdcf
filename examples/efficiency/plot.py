"""Plot throughput against the number of candidates (the paper's Figure 4) from the figures of benchmark.py, or of gpu.sh.

python examples/efficiency/plot.py out.json --output figure4.png [--contenders renormalised fairseq 'clip*' …]
"""

import argparse
import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cart_fairseq.base.files import replacing
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json

SHOWN = (
    "renormalised-bf16",
    "renormalised",
    "masked",
    "fairseq",
    "huggingface",
    "clip+flat",
    "clap+flat",
    "minilm+flat",
    "minilm+ivf",
    "cart, *",
    "* + exact search, *",
)
LABELS = {
    "masked": "CART, masked",
    "renormalised": "CART, renormalised",
    "masked-bf16": "CART, masked, bf16",
    "renormalised-bf16": "CART, renormalised, bf16",
    "fairseq": "CART in stock fairseq",
    "huggingface": "BART in Hugging Face generate",
}


def timed_rows(result: dict[str, Any]) -> Iterator[tuple[str, int, float]]:
    """Contender, items and seconds of each search in the largest batch, of either kind of record."""
    queries = queries_of(result)
    for catalogue in result.get("catalogues", ()):
        for row in catalogue["results"]:
            if "median" in row:
                yield row["contender"], catalogue["items"], row["median"]
    for row in result.get("metrics", ()):
        if row["queries"] == queries:
            yield row["contender"], row["items"], row["median"]


def queries_of(result: dict[str, Any]) -> int:
    """Queries in one batch; gpu.sh measures several sizes."""
    queries = result["settings"]["queries"]
    return max(queries) if isinstance(queries, list) else queries


def throughput(result: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return contender -> (items, queries per second), ordered by items."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, items, seconds in sorted(timed_rows(result), key=lambda each: each[1]):
        found.setdefault(name, []).append((items, queries_of(result) / seconds))
    return found


def draw(result: dict[str, Any], patterns: Sequence[str], output: Path) -> list[str]:
    """Write the figure, and return the contenders in it.

    Raises:
        ValueError: none of them was measured.
    """
    series = throughput(result)
    chosen = [name for name in series if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise ValueError(f"nothing to draw: none of {', '.join(patterns)} was measured, only {', '.join(series)}")
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in chosen:
        items, rates = zip(*series[name], strict=True)
        dual = "+" in name
        label = LABELS.get(name, re.sub(r"\b\+\b", " encoder + faiss ", name))
        axes.plot(items, rates, marker="s" if dual else "o", linestyle="--" if dual else "-", label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("candidates")
    settings, machine = result["settings"], result["machine"]
    on_gpu = settings.get("device") == "cuda"
    place = machine["gpu"]["name"] if on_gpu else f"{machine['processor']}, {machine['threads']} threads"
    axes.set_ylabel(f"queries/s, {queries_of(result)} in one batch")
    axes.set_title(f"{place}, beam {settings['beam']}", fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    with replacing(output) as new:
        figure.savefig(new, dpi=150, format=output.suffix[1:] or "png")
    return chosen


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description="Draw throughput against the number of candidates.")
    parser.add_argument("result", type=Path, help="output of benchmark.py --json, or search.json of gpu.sh")
    parser.add_argument("--output", type=Path, required=True, help="the image to write; its suffix gives the format")
    parser.add_argument(
        "--contenders", nargs="+", default=SHOWN, metavar="NAME", help="names or patterns of contenders to draw"
    )
    args = parser.parse_args(argv)
    result = read_json(args.result)
    if not isinstance(result, dict) or not (result.get("catalogues") or result.get("metrics")):
        raise ValueError(f"{args.result}: no measured catalogues in it; write it with benchmark.py --json or gpu.sh")
    drawn = draw(result, args.contenders, args.output)
    print(f"{args.output}: {', '.join(drawn)}")


if __name__ == "__main__":
    run_script(main)
