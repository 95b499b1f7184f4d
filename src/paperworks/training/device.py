"""The torch device that a user names, or the one there is."""

import torch

from paperworks.errors import SettingError


def usable_device(name: str | None = None) -> str:
    """`name`, once a tensor could be made there; without a name `cuda` where there is one, else `cpu`.

    Raises:
        SettingError: torch knows no such device, or this machine has none; says which there are.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise SettingError(f"--device {name} cannot be used on this machine; there are: {', '.join(there)}") from error
    return name
