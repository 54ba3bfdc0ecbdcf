"""The device of a search."""

import textwrap

import torch

from cart_fairseq.base.checks import short


def device_of(asked: str | torch.device | None) -> torch.device:
    """Return the device to search on; without a wish, a GPU if there is one.

    Raises:
        ValueError: there is no such device.
    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError) as error:
        reason = textwrap.shorten(str(error).splitlines()[0], 120)
        given = short(str(asked) if isinstance(asked, torch.device) else asked)
        raise ValueError(f"device is {given}; it cannot be used here ({reason}); give cpu, or leave it out") from None
    return device
