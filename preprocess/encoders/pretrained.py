"""Models and processors of `transformers` from a folder or the hub, with errors that say what to do.

Without a network set HF_HUB_OFFLINE=1, to use the cache of earlier downloads, or give a folder.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from cart_fairseq.libraries import import_library

Loaded = TypeVar("Loaded")

OFFLINE = (
    "give a folder written by save_pretrained or a name on the hub; on a machine without network, download it elsewhere, "
    "copy the folder and give its path, or set HF_HUB_OFFLINE=1 to use the cache"
)


def loading(name: str, load: Callable[[], Loaded], remedy: str = OFFLINE) -> Loaded:
    """What `load` returns, its failures as a `ValueError` that names the model and the remedy."""
    try:
        return load()
    # a wrong folder, name, file or network comes as OSError, ValueError, KeyError, TypeError or a library's own kind
    except ImportError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: cannot be loaded ({reason}); {remedy}") from None


def load_model(name: str, optional: tuple[str, ...] = (), remedy: str = OFFLINE) -> tuple[Any, list[str]]:
    """A model with all its weights.

    Args:
        name: on the hub, or a folder.
        optional: beginnings of the names of weights that may be missing.
        remedy: what to do where it cannot be loaded.

    Returns:
        The model, and which optional weights are missing.

    Raises:
        ValueError: it cannot be loaded, or weights are missing, which would otherwise be random numbers.
    """
    transformers = import_library("transformers")
    model, report = loading(
        name, lambda: transformers.AutoModel.from_pretrained(name, output_loading_info=True), remedy
    )
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    needed = [key for key in missing if not key.startswith(optional)]
    if needed:
        raise ValueError(
            f"{name}: lacks {len(needed)} weights of {type(model).__name__} ({needed[0]} …), they would be random; "
            "choose a checkpoint of this model itself, not of a part or a task of it"
        )
    return model, missing


def load_part(kind: str, name: str) -> Any:
    """A tokenizer, image processor … of a model by the name of its `transformers` class.

    Args:
        kind: AutoTokenizer, AutoImageProcessor, AutoFeatureExtractor, AutoVideoProcessor or AutoConfig.
        name: of the model.
    """
    transformers = import_library("transformers")
    return loading(name, lambda: getattr(transformers, kind).from_pretrained(name))


def require_family(name: str, config: Any, family: str, types: tuple[str, ...]) -> None:
    """Refuse a model of another kind than its family's, by its configuration."""
    found = config.model_type
    if found not in types:
        raise ValueError(f"{name}: a model of type {found!r}, not of {family}; choose another encoder, or auto:{name}")
