"""What captions say, as rows of numbers: latent semantic analysis fitted here, or a pretrained sentence encoder.

Latent semantic analysis is scikit-learn's TF-IDF (sublinear term frequencies, words of at least two captions unless the
settings ask for all) followed by a truncated singular value decomposition; it needs nothing pretrained. Its parts are
plain arrays and a list of words.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from cart_fairseq.base.progress import Progress

LSA_DIMENSION = 512
MANY = 100_000
"""Learning from as many texts takes minutes."""
VECTORISER = {"sublinear_tf": True, "dtype": np.float32}


class LsaFeatures:
    """TF-IDF, then singular vectors, then length 1.

    Attributes:
        vocabulary: V words, in the order of `idf`.
        idf: (V,) float32, inverse document frequencies.
        components: (T, V) float32, right singular vectors.
        dimension: T.
        batch_rows: texts worth giving at a time.
    """

    batch_rows = 4096

    def __init__(self, vocabulary: Sequence[str], idf: NDArray[np.float32], components: NDArray[np.float32]):
        self.vocabulary = list(vocabulary)
        self.idf = idf
        self.components = components
        self.dimension = len(components)
        self._vectoriser = TfidfVectorizer(vocabulary=self.vocabulary, **VECTORISER)
        self._vectoriser.idf_ = idf

    @classmethod
    def fit(
        cls, texts: Sequence[str], dimension: int | None, seed: int, source: Any, rare_words: bool = False
    ) -> "LsaFeatures":
        """Learn words, weights and singular vectors from texts.

        Args:
            dimension: T; None for 512, or what few texts or words allow.
            seed: of the randomised decomposition.
            source: the texts' file, for messages.
            rare_words: whether words of one text alone are learned, too.

        Raises:
            ValueError: fewer than two words occur in two texts (in one, with rare words), or there are fewer texts or words than `dimension`.
        """
        vectoriser = TfidfVectorizer(min_df=1 if rare_words else 2, **VECTORISER)
        if len(texts) >= MANY:
            with Progress(None, "text features", "captions", announce=f"learning them from {len(texts):,} captions"):
                pass  # scikit-learn does it in two steps and says nothing of them
        try:
            weights = vectoriser.fit_transform(texts)
        except ValueError:  # scikit-learn's "no terms remain", "empty vocabulary" and the like
            weights = None
        if weights is None or weights.shape[1] < 2:  # one word alone tells no captions apart
            raise ValueError(
                f"{source}: {'no word occurs' if weights is None else 'only one word occurs'} in {'any' if rare_words else 'two'} of the "
                f"{len(texts)} captions that may be used; give more captions, or a sentence encoder with --text-features"
            )
        limit = min(weights.shape)
        if dimension is not None and dimension > limit:
            raise ValueError(
                f"--text-dim {dimension}: {source} has only {weights.shape[0]} captions to fit on and {weights.shape[1]} "
                f"words that {'occur' if rare_words else 'occur twice'}; use a value of at most {limit}"
            )
        with threadpool_limits(limits=1):  # the same result everywhere
            svd = TruncatedSVD(dimension or min(LSA_DIMENSION, limit), random_state=seed).fit(weights)
        words = vectoriser.get_feature_names_out().tolist()
        return cls(words, vectoriser.idf_.astype(np.float32), svd.components_.astype(np.float32))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, T) float32, rows of length 1; zeros for a text without any known word."""
        return normalize(np.asarray(self._vectoriser.transform(texts) @ self.components.T, dtype=np.float32))

    def tensors(self) -> dict[str, np.ndarray]:
        """All of it but the words."""
        return {"lsa.idf": self.idf, "lsa.components": self.components}

    @classmethod
    def load(cls, tensors: dict[str, np.ndarray], vocabulary: Sequence[str]) -> "LsaFeatures":
        """The inverse of `tensors`."""
        return cls(vocabulary, tensors["lsa.idf"], tensors["lsa.components"])


class EncoderFeatures:
    """The text side of an encoder of `preprocess.encoders`.

    Attributes:
        dimension: T.
        batch_rows: texts through the encoder at a time.
    """

    batch_rows = 128

    def __init__(self, spec: str, device: str):
        from preprocess.encoders.loading import load_encoder

        self.spec = spec
        self.encoder = load_encoder(spec, device)
        self.encoder.check("text")
        self.dimension: int = self.encoder.dimension

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, T) float32, rows of length 1.

        Raises:
            ValueError: the encoder gives something else than numbers.
        """
        rows = self.encoder.embed_text(list(texts))
        good = np.isfinite(rows).all(axis=1)
        if not good.all():
            raise ValueError(
                f"--text-features {self.spec}: no finite values for {texts[int(good.argmin())]!r}; choose another encoder"
            )
        return rows
