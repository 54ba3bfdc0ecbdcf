"""Checks the state of an optimiser that a checkpoint stores, which a training takes over where it goes on."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cart_fairseq.base.checks import short
from cart_fairseq.loading.stored import TRAIN_AGAIN

MOST_UPDATES = 1 << 40
OF_STATE = "its state of the optimiser has"


def check_moments(optimizer: Any) -> None:
    """Check the moments in the state of Adam and of optimisers like it.

    Args:
        optimizer: what ``state_dict`` of the optimiser returned, or None.

    Raises:
        ValueError: a moment is not finite, or missing, a second moment is negative, or betas or steps are out of range.
    """
    states = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    for group in groups if isinstance(groups, list) else ():
        betas = group.get("betas", (0, 0)) if isinstance(group, Mapping) else None
        if not (isinstance(betas, tuple | list) and all(isinstance(b, int | float) and 0 <= b < 1 for b in betas)):
            raise ValueError(f"{OF_STATE} betas {short(betas)}; {TRAIN_AGAIN}")
    states = states if isinstance(states, Mapping) else {}
    averaging = any(isinstance(state, Mapping) and "exp_avg" in state for state in states.values())
    for number, state in states.items():
        if not isinstance(state, Mapping) or (averaging and "exp_avg" not in state):
            raise ValueError(f"{OF_STATE} {short(state)} of weight {short(number)}, not its moments; {TRAIN_AGAIN}")
        if averaging and not any(str(name).startswith(("exp_avg_sq", "exp_inf")) for name in state):
            raise ValueError(f"{OF_STATE} no second moment of weight {short(number)}; {TRAIN_AGAIN}")
        for name, value in state.items():
            if name == "step" and not _is_step(value):
                raise ValueError(f"{OF_STATE} step {short(value)} of weight {short(number)}; {TRAIN_AGAIN}")
            if str(name).startswith("exp_") and not _is_moment(value, "sq" in name):
                raise ValueError(
                    f"{OF_STATE} {name} of weight {short(number)} with a value that no training gives; {TRAIN_AGAIN}"
                )


def _is_step(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and bool(0 <= value < MOST_UPDATES)
    return isinstance(value, int | float) and 0 <= value < MOST_UPDATES


def _is_moment(value: Any, second: bool) -> bool:
    return isinstance(value, Tensor) and bool(value.isfinite().all()) and not (second and bool((value < 0).any()))


def check_sizes_of_moments(optimizer: Any) -> None:
    """Check that each moment of Adam is as large as its weight, after torch has taken them over.

    Args:
        optimizer: the optimiser of torch.

    Raises:
        ValueError: one is not; training would fail at its first update.
    """
    for number, weight in enumerate(weight for group in optimizer.param_groups for weight in group["params"]):
        for name in ("exp_avg", "exp_avg_sq"):
            moment = getattr(optimizer, "state", {}).get(weight, {}).get(name)
            if moment is not None and moment.shape != weight.shape:
                raise ValueError(
                    f"{OF_STATE} {name} of weight {number} of size {tuple(moment.shape)}, the weight "
                    f"has {tuple(weight.shape)}; {TRAIN_AGAIN}"
                )
