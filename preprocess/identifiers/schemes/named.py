"""All schemes, by the names that the command line and `codec.json` have for them."""

from preprocess.identifiers.schemes.coarse_fine import CoarseFine
from preprocess.identifiers.schemes.grace import Atomic, Structured
from preprocess.identifiers.schemes.residual_kmeans import ResidualKMeans
from preprocess.identifiers.schemes.scheme import Scheme
from preprocess.identifiers.schemes.semantic import Semantic
from preprocess.identifiers.schemes.tree import HierarchicalKMeans

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        CoarseFine("coarse-fine", coarse=True),
        CoarseFine("rqvae", coarse=False),
        HierarchicalKMeans(),
        ResidualKMeans(),
        Atomic(),
        Structured(),
        Semantic(),
    )
}
