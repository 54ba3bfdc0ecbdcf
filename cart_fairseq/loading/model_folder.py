"""A MODEL folder: a data-bin without its pairs that holds its models, so that it is all that a search needs.

Beside the files of a data-bin it has ``config.json``, the weights in safetensors, and ``README.md``, the model card.
:mod:`cart_fairseq.publishing.exporting` writes it; here it is opened, without fairseq.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from cart_fairseq.base.reading import check_fields, check_version, read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.segments import MANIFEST
from cart_fairseq.loading.building import build_model
from cart_fairseq.loading.stored import TRAIN_AGAIN, check_choices, check_types, plain
from cart_fairseq.network.config import CHOICES, ArchitectureConfig, NetworkConfig, StackConfig
from cart_fairseq.network.model import CART

CONFIG, README = "config.json", "README.md"
WEIGHTS = "model*.safetensors"
"""Pattern of the names of :func:`weights_file`."""
FORMAT, FORMAT_VERSION = "cart-fairseq", 1
REMEDY = "export the model again with python -m cart_fairseq.export"
FIELDS = {"format": str, "format_version": int, "models": list}
"""Fields of ``config.json`` that are read, and their types; the others are for people."""
MOST_MODELS = 64
STACKS = ("encoder", "decoder")


def weights_file(number: int, models: int) -> str:
    """Return the name of the file with a model's weights.

    >>> weights_file(1, 1), weights_file(2, 3)
    ('model.safetensors', 'model.2.safetensors')
    """
    return "model.safetensors" if models == 1 else f"model.{number}.safetensors"


def is_model_folder(path: str | Path) -> bool:
    """Whether a path is that of a MODEL folder, in any state. It may be damaged."""
    folder = Path(path)
    return (folder / CONFIG).is_file() and (folder / MANIFEST).is_file()


def has_models(data: DataBin) -> bool:
    """Whether an opened data-bin is a MODEL folder."""
    return CONFIG in data.manifest["files"]


def open_model_folder(path: str | Path) -> tuple[Sequence[CART], DataBin]:
    """Open a MODEL folder.

    Returns:
        The models, in evaluation mode, float32, on the CPU; and the folder as a data-bin.

    Raises:
        ValueError: it is no such folder. CatalogueError: it is damaged, or of a newer version.
    """
    if not is_model_folder(path):
        raise ValueError(f"{path}: {_found(Path(path))}")
    data = DataBin(path)
    return load_models(data), data


def _found(path: Path) -> str:
    """Say what a path is instead of a MODEL folder, and what to do."""
    if path.is_file():
        return "is a file, no MODEL folder; for a checkpoint, give its data-bin as data, or export it with python -m cart_fairseq.export"
    if (path / MANIFEST).is_file():
        return (
            "holds no model; give a checkpoint, with this folder as data, or a folder of python -m cart_fairseq.export"
        )
    if path.is_dir():
        return "no config.json and manifest.json, so this is no MODEL folder; give one of python -m cart_fairseq.export"
    return "no such MODEL folder; make one with python -m cart_fairseq.export, or give a checkpoint and its data-bin as data"


def load_models(data: DataBin) -> Sequence[CART]:
    """Load the models of an opened MODEL folder, see :func:`open_model_folder`.

    Raises:
        CatalogueError: the settings or weights are damaged, of a newer version, or do not belong to the catalogue.
    """
    where = data.directory / CONFIG
    if not has_models(data):
        raise CatalogueError(f"{where}: is not among the files that {MANIFEST} lists; {REMEDY}")
    with data.files.reading(CONFIG) as path:
        config = read_json(path)
    entries = _check_config(where, config)
    models = []
    for number, entry in enumerate(entries, start=1):
        name = weights_file(number, len(entries))
        try:
            architecture = read_architecture(entry)
            models.append(build_model(architecture, data, _read_weights(data, name)))
        except CatalogueError:
            raise
        except (ValueError, RuntimeError, AssertionError) as error:  # modules refuse sizes with errors of many types
            said = " ".join(str(error).split()).removesuffix(f"; {TRAIN_AGAIN}")
            file = CONFIG if said.startswith("its setting") else name
            raise CatalogueError(f"{data.directory / file}: {said}; {REMEDY}") from None
    return models


def _check_config(where: Path, config: Any) -> list[Any]:
    """Check what a ``config.json`` is of; return the settings of its models.

    Raises:
        CatalogueError: it is of something else, damaged, or of a newer version.
    """
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CatalogueError(f"{where}: is not the settings of a model of this project; {REMEDY}")
    try:
        check_fields(where, config, FIELDS, REMEDY)
        check_version(f"{where}: format_version", config["format_version"], FORMAT_VERSION, REMEDY)
    except ValueError as error:
        raise CatalogueError(str(error)) from None
    models = config["models"]
    if not 1 <= len(models) <= MOST_MODELS:
        raise CatalogueError(f"{where}: names {len(models)} models, not between 1 and {MOST_MODELS}; {REMEDY}")
    return [*models]


def _read_weights(data: DataBin, name: str) -> dict[str, Tensor]:
    """Read a file of weights; they are copied, so that no later change of the file reaches them."""
    with data.files.reading(name) as path:
        return {key: tensor.clone() for key, tensor in load_file(path).items()}


def architecture_entry(architecture: ArchitectureConfig) -> dict[str, Any]:
    """The settings of a model for ``config.json``."""
    return dataclasses.asdict(architecture)


def read_architecture(entry: Any) -> ArchitectureConfig:
    """Make the settings of a model from its entry in ``config.json``. Settings that it lacks have their defaults.

    Raises:
        ValueError: a setting is unknown, of another type, or none of its choices.
    """
    network = _section(entry, "network")
    stacks: dict[str, Any] = {stack: StackConfig(**_known(StackConfig(), _section(network, stack))) for stack in STACKS}
    options = _known(NetworkConfig(), network, STACKS)
    check_choices(options, CHOICES)
    whole = _known(ArchitectureConfig(), entry, ["network"])
    return ArchitectureConfig(NetworkConfig(**stacks, **options), **whole)


def _section(entry: Any, name: str) -> Mapping[str, Any]:
    """Return a section of settings.

    Raises:
        ValueError: there is none.
    """
    found = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(found, Mapping):
        raise ValueError(f"its settings have no section {name!r}")
    return found


def _known(defaults: Any, stored: Mapping[str, Any], others: Sequence[str] = ()) -> dict[str, Any]:
    """Return stored settings after a check of their names and types.

    Args:
        defaults: an object of the settings' dataclass.
        stored: the settings.
        others: names of sections, which are left out.

    Raises:
        ValueError: a name is unknown, or a value has another type than its default.
    """
    known = {name: value for name, value in vars(defaults).items() if name not in others}
    unknown = sorted(stored.keys() - known.keys() - {*others})
    if unknown:
        raise ValueError(f"its setting {unknown[0]} is unknown; a newer version may know it")
    found = plain(stored, known)
    check_types(found, known)
    return found
