"""The steps as functions, with their settings.

Each command `python -m preprocess.NAME` is a parser and one call of the function of the same name here. A function
takes files and folders as `str` or `Path`, and settings in a dataclass whose fields are the command's flags. It raises
`ValueError` for bad input, and `TypeError` if `settings` is no such dataclass. It returns a small object with the
figures and a `summary`.

    from preprocess.api import DataBinSettings, IdentifierSettings, binarize, build_identifiers

    build_identifiers("embeddings.npy", "items.jsonl", "identifiers", IdentifierSettings(seed=2))
    made = binarize("identifiers", "captions.jsonl", "data-bin", DataBinSettings(index_captions="exclude"))
    print(made.summary)
"""

from preprocess.annotations.build import WrittenAnnotations, read_annotations
from preprocess.annotations.settings import AnnotationSettings
from preprocess.captioners.generate import GeneratedCaptions, generate_captions
from preprocess.captioners.settings import CaptionSettings
from preprocess.data_bin.build import BinarizedData, binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.encoders.extract import ExtractedEmbeddings, extract_embeddings, extract_text_embeddings
from preprocess.encoders.settings import EmbeddingSettings
from preprocess.folder.build import ReadFolder, read_folder
from preprocess.folder.settings import FolderSettings
from preprocess.identifiers.build import BuiltIdentifiers, build_identifiers
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.inspection.page import Inspection, inspect_identifiers
from preprocess.inspection.settings import InspectionSettings
from preprocess.join.build import JoinedCaptions, join_captions
from preprocess.join.settings import JoinSettings
from preprocess.updating.change import Updated
from preprocess.updating.renewing import renew
from preprocess.updating.settings import AddSettings
from preprocess.updating.steps import add, compact, remove
from preprocess.verifying.whole import Verified, verify

__all__ = [
    "AddSettings",
    "AnnotationSettings",
    "BinarizedData",
    "BuiltIdentifiers",
    "CaptionSettings",
    "DataBinSettings",
    "EmbeddingSettings",
    "ExtractedEmbeddings",
    "FolderSettings",
    "GeneratedCaptions",
    "IdentifierSettings",
    "Inspection",
    "InspectionSettings",
    "JoinSettings",
    "JoinedCaptions",
    "ReadFolder",
    "Updated",
    "Verified",
    "WrittenAnnotations",
    "add",
    "binarize",
    "build_identifiers",
    "compact",
    "extract_embeddings",
    "extract_text_embeddings",
    "generate_captions",
    "inspect_identifiers",
    "join_captions",
    "read_annotations",
    "read_folder",
    "remove",
    "renew",
    "verify",
]
