"""A warm start: an adapter that was trained before, as the first weights of the next."""

from pathlib import Path

import torch
from torch import nn

from ollama_ft.core.errors import BadInput
from ollama_ft.kinds.trainers.model import adapter_parameters


def begin_from(adapted: nn.Module, folder: Path) -> None:
    """Copy the adapter in `folder` (PEFT's format) into `adapted`'s.

    The optimizer begins anew, and the learning rate rises again. Raises BadInput if the file is
    damaged, or is of another rank or other modules.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    try:
        before = load_file(path)
        with torch.no_grad():
            for name, parameter in adapter_parameters(adapted).items():
                parameter.copy_(before[name.replace(".default.weight", ".weight")])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise BadInput(
            f"The adapter in {folder} cannot be gone on from: {error}. Rank and target modules "
            "must be those that it was trained with.",
            mend="ask for --strategy scratch",
        ) from error
