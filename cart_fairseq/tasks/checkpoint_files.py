"""How fairseq reads and writes checkpoints: whole or not at all, by one training at a time, and with errors that name the file.

fairseq writes one checkpoint under a temporary name, renames it, and then copies it over the others in place. A run
that is killed during a copy leaves a truncated ``checkpoint_last.pt``, from which training cannot resume. On a full disk
it leaves the temporary file, which keeps the disk full, and shows tracebacks that name no file.
"""

import argparse
import contextlib
import functools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils, trainer
from fairseq.file_io import PathManager
from torch import OutOfMemoryError

from cart_fairseq.base.files import locked_file, replacing
from cart_fairseq.base.processes import is_expected
from cart_fairseq.base.reading import first_line
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.loading.checkpoint import read_settings, refuse_damaged, write_checkpoint
from cart_fairseq.loading.optimizer_state import check_sizes_of_moments
from cart_fairseq.loading.stored import section
from cart_fairseq.models.flags import NETWORK, set_defaults

LOCK = ".lock"
"""In the folder of checkpoints; the kernel's lock on it ends with the process, the file stays."""
OF_WEIGHTS = "loading state_dict for CARTModel:"
"""What torch says before it names the weights that do not fit."""
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
OF_STATES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What fairseq and torch raise of a state of the optimiser that they cannot use."""
_copy = PathManager.copy
_save = checkpoint_utils.torch_persistent_save
_load_ensemble = checkpoint_utils.load_model_ensemble_and_task


def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """Copy a local file atomically; URLs (``s3://…``) are left to fairseq's `PathManager.copy`."""
    if "://" in dst_path:
        return bool(_copy(src_path, dst_path, overwrite))
    with replacing(dst_path) as new:
        shutil.copyfile(src_path, new)
    return True


def save_whole(obj: Any, filename: str, async_write: bool = False) -> None:
    """Write a local checkpoint atomically; URLs and writing in the background are left to fairseq.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    if async_write or not isinstance(filename, str) or "://" in filename:
        _save(obj, filename, async_write)
        return
    try:
        write_checkpoint(filename, obj)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, filename) from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one training at a time write checkpoints into a folder.

    Raises:
        ValueError: another process has it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if is_new:
            stack.callback(_remove_unused, folder)
        try:
            stack.enter_context(locked_file(folder / LOCK))
        except BlockingIOError:
            raise ValueError(
                f"{folder}: another training is writing there; wait until it has ended, or choose another --save-dir"
            ) from None
        yield


def _remove_unused(folder: Path) -> None:
    """Remove a folder that holds nothing but the lock, after a training that failed before its first checkpoint."""
    if [each.name for each in folder.iterdir()] == [LOCK]:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()


def load_ensemble(
    filenames: Sequence[str], arg_overrides: dict[str, Any] | None = None, task: Any = None, *args: Any, **kwargs: Any
) -> tuple[list[Any], Any, Any]:
    """Load checkpoints as fairseq's ``load_model_ensemble_and_task`` does, but name the one that cannot be loaded.

    Returns:
        The models, the settings of the last one, and the task.

    Raises:
        CatalogueError: the data-bin is missing or damaged.
        ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers.
    """
    models: list[Any] = []
    cfg = None
    for each in filenames:
        try:
            found, cfg, task = _load_ensemble([each], arg_overrides, task, *args, **kwargs)
        except CatalogueError:  # of the data-bin; the checkpoint was read before
            raise
        except Exception as error:
            if not Path(each).is_file():
                members = each.split(os.pathsep)
                if len(members) > 1 and all(Path(member).is_file() for member in members):
                    raise ValueError(f"{each}: is an ensemble; give one of its checkpoints") from None
                refuse_damaged(each)
            if isinstance(error, ValueError):
                text = " ".join(str(error).split()).removeprefix(f"{each}: ")
                raise ValueError(f"{each}: {text}") from error
            said = first_line(error, OF_WEIGHTS if OF_WEIGHTS in str(error) else "")
            raise ValueError(
                f"{each}: cannot be loaded as a model of this version ({said}); give a checkpoint of --task "
                "cart_retrieval, install the version of cart-fairseq that wrote it, or train again"
            ) from error
        models += found
    return models, cfg, task


def _naming_checkpoints(load: Any) -> Any:
    """Make an error of a checkpoint from which a training cannot go on name the file and what to do."""

    @functools.wraps(load)
    def loaded(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        remedy = "give those it was trained with"
        if str(filename) != str(self.cfg.checkpoint.finetune_from_model):
            remedy += ", or choose another --save-dir"
        try:
            extra = load(self, filename, *args, **kwargs)
        except OF_STATES as error:
            if is_expected(error) or isinstance(error, OutOfMemoryError) or not Path(filename).is_file():
                raise
            raise ValueError(
                f"{filename}: its state of the optimiser does not go with this training ({first_line(error)}); add "
                "--reset-optimizer --reset-lr-scheduler to keep the weights alone, or choose another --save-dir"
            ) from error
        except Exception as error:
            if type(error) is not Exception or not isinstance(error.__context__, Exception):
                raise
            # what fairseq raises of weights, which hides what is wrong with them
            of_weights = OF_WEIGHTS if OF_WEIGHTS in str(error.__context__) else ""
            raise ValueError(
                f"{filename}: its weights do not go with this training's settings of the model "
                f"({first_line(error.__context__, of_weights)}); {remedy}"
            ) from error
        _refuse_other_network(filename, self, remedy)
        try:
            check_sizes_of_moments(self.optimizer.optimizer)
        except ValueError as error:
            raise ValueError(f"{filename}: {error}") from None
        return extra

    return loaded


def _refuse_other_network(filename: str, training: trainer.Trainer, remedy: str) -> None:
    """Refuse a network that computes something else with the same weights, such as one with other attention heads.

    Raises:
        ValueError: it differs from the checkpoint's in more than dropout.
    """
    architecture = getattr(training.get_model(), "architecture", None)
    if architecture is None or not Path(filename).is_file():
        return
    before, now = argparse.Namespace(**section(read_settings(filename), "model")), training.cfg.model
    set_defaults(before)  # checkpoints of earlier versions lack later flags
    for name in NETWORK:
        then, value = getattr(before, name), getattr(now, name)
        own = architecture.pretrained and name.startswith("encoder_") and name != "encoder_states"
        if then != value and name not in DROPOUTS and not own:
            raise ValueError(
                f"{filename}: its weights do not go with this training's settings of the model "
                f"(--{name.replace('_', '-')} is {value}, it was trained with {then}); {remedy}"
            )


def install() -> None:
    """Replace fairseq's functions that write, copy and load checkpoints by those of this module."""
    PathManager.copy = staticmethod(copy_whole)
    checkpoint_utils.torch_persistent_save = save_whole
    checkpoint_utils.load_model_ensemble_and_task = load_ensemble
    if not hasattr(trainer.Trainer.load_checkpoint, "__wrapped__"):
        trainer.Trainer.load_checkpoint = _naming_checkpoints(trainer.Trainer.load_checkpoint)
