"""Plot throughput against the number of candidates (the paper's Figure 4) from the figures of benchmark.py.

python examples/efficiency/plot.py out.json --output figure4.png [--contenders renormalised fairseq 'clip*' …]
"""

import argparse
import fnmatch
from collections.abc import Sequence
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
)
LABELS = {
    "masked": "CART, masked",
    "renormalised": "CART, renormalised",
    "masked-bf16": "CART, masked, bf16",
    "renormalised-bf16": "CART, renormalised, bf16",
    "fairseq": "CART in stock fairseq",
    "huggingface": "BART in Hugging Face generate",
}


def throughput(result: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return contender -> (items, queries per second), ordered by items."""
    queries = result["settings"]["queries"]
    found: dict[str, list[tuple[int, float]]] = {}
    for catalogue in sorted(result["catalogues"], key=lambda each: each["items"]):
        for row in catalogue["results"]:
            if "median" in row:
                found.setdefault(row["contender"], []).append((catalogue["items"], queries / row["median"]))
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
        label = LABELS.get(name, name.replace("+", " encoder + faiss "))
        axes.plot(items, rates, marker="s" if dual else "o", linestyle="--" if dual else "-", label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("candidates")
    settings, machine = result["settings"], result["machine"]
    axes.set_ylabel(f"queries/s, {settings['queries']} in one batch")
    axes.set_title(f"{machine['processor']}, {machine['threads']} threads, beam {settings['beam']}", fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    with replacing(output) as new:
        figure.savefig(new, dpi=150, format=output.suffix[1:] or "png")
    return chosen


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description="Draw throughput against the number of candidates.")
    parser.add_argument("result", type=Path, help="output of benchmark.py --json")
    parser.add_argument("--output", type=Path, required=True, help="the image to write; its suffix gives the format")
    parser.add_argument(
        "--contenders", nargs="+", default=SHOWN, metavar="NAME", help="names or patterns of contenders to draw"
    )
    args = parser.parse_args(argv)
    result = read_json(args.result)
    if not isinstance(result, dict) or not result.get("catalogues"):
        raise ValueError(f"{args.result}: no measured catalogues in it; write it with benchmark.py --json")
    drawn = draw(result, args.contenders, args.output)
    print(f"{args.output}: {', '.join(drawn)}")


if __name__ == "__main__":
    run_script(main)
