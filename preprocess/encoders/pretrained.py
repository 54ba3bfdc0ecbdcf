"""Load models and processors of `transformers` from a folder or the hub, with errors that name a remedy.

Without a network, give a folder, or set HF_HUB_OFFLINE=1 to use the cache of earlier downloads.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from cart_fairseq.base.libraries import import_library

Loaded = TypeVar("Loaded")

OFFLINE = (
    "give a folder written by save_pretrained or a name on the hub; on a machine without network, copy a downloaded "
    "folder there and give its path, or set HF_HUB_OFFLINE=1 to use the cache"
)


def loading(name: str, load: Callable[[], Loaded], remedy: str = OFFLINE) -> Loaded:
    """Return what `load` returns.

    Raises:
        ValueError: `load` failed; the message names the model and the remedy.
    """
    try:
        return load()
    # libraries raise OSError, ValueError, KeyError, TypeError and errors of their own for a bad name, file or network
    except ImportError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: cannot be loaded ({reason}); {remedy}") from None


def load_model(name: str, optional: tuple[str, ...] = (), remedy: str = OFFLINE) -> tuple[Any, list[str]]:
    """Load a model with all its weights.

    Args:
        name: name on the hub, or a folder.
        optional: prefixes of the names of weights that may be missing.
        remedy: advice in the error message.

    Returns:
        The model, and the names of its missing optional weights.

    Raises:
        ValueError: the model cannot be loaded, or the checkpoint lacks weights, which would be random numbers.
    """
    transformers = import_library("transformers")
    model, report = loading(
        name, lambda: transformers.AutoModel.from_pretrained(name, output_loading_info=True), remedy
    )
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    needed = [key for key in missing if not key.startswith(optional)]
    if needed:
        raise ValueError(
            f"{name}: lacks {len(needed)} weights of {type(model).__name__} ({needed[0]} …), which would be random; "
            "choose a checkpoint of the whole model, not of a part of it or of a task"
        )
    return model, missing


def load_part(kind: str, name: str) -> Any:
    """Load a tokenizer, image processor or other part of a model.

    Args:
        kind: its class in `transformers`, such as AutoTokenizer or AutoImageProcessor.
        name: name of the model.
    """
    transformers = import_library("transformers")
    return loading(name, lambda: getattr(transformers, kind).from_pretrained(name))


def require_family(name: str, config: Any, family: str, types: tuple[str, ...]) -> None:
    """Refuse a model whose configuration has a type of another family."""
    found = config.model_type
    if found not in types:
        raise ValueError(f"{name}: is a model of type {found!r}, not {family}; choose another encoder, or auto:{name}")
