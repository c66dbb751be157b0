"""mmcv's data-parallel wrappers for one device a process, CPU included.

mmcv 1.7.2 as it is hands DataContainers unopened to a model in DistributedDataParallel on CPU, asks
torch for copy streams by number, which torch 2.1 refuses, and for an attribute of
DistributedDataParallel that torch 2.1 no longer has. These subclasses open and move the batch
themselves; everything else is mmcv's.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.parallel import DataContainer, MMDataParallel, MMDistributedDataParallel

from ...runtime import distributed as dist


def opened(value: Any, device: torch.device) -> Any:
    """A collated batch without DataContainers, its tensors on `device`; what is open already stays
    as it is."""
    if isinstance(value, DataContainer):
        return value.data[0] if value.cpu_only else opened(value.data[0], device)
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: opened(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [opened(item, device) for item in value]
    return value


class OneDevice:
    """Scatters to the one device that the wrapped model is on."""

    module: Any

    def scatter(self, inputs: Any, kwargs: Any, device_ids: Any) -> tuple[Any, Any]:
        """(positional, named) arguments for each device, of which there is one."""
        device = next(self.module.parameters()).device
        return (tuple(opened(item, device) for item in inputs),), (opened(kwargs, device),)


class DataParallel(OneDevice, MMDataParallel):  # type: ignore[misc]
    """mmcv's MMDataParallel, for a run of one process."""


class DistributedDataParallel(OneDevice, MMDistributedDataParallel):  # type: ignore[misc]
    """mmcv's MMDistributedDataParallel, over NCCL or, with device_ids=None, gloo on CPU."""

    def train_step(self, *inputs: Any, **kwargs: Any) -> Any:
        """As the parent, which opens the batch on CUDA alone."""
        (inputs,), (kwargs,) = self.scatter(inputs, kwargs, None)
        return super().train_step(*inputs, **kwargs)

    def val_step(self, *inputs: Any, **kwargs: Any) -> Any:
        """As `train_step`."""
        (inputs,), (kwargs,) = self.scatter(inputs, kwargs, None)
        return super().val_step(*inputs, **kwargs)

    def _run_ddp_forward(self, *inputs: Any, **kwargs: Any) -> Any:
        (inputs,), (kwargs,) = self.scatter(inputs, kwargs, None)
        return self.module(*inputs, **kwargs)


def wrapped(model: Any, find_unused_parameters: bool = False, static_graph: bool = False) -> Any:
    """The model on this process's device, in the wrapper that mmcv's runners train. static_graph:
    parameters are used more than once in a step, by gradient checkpointing, and that stays so."""
    cuda = torch.cuda.is_available()
    device_ids = [torch.cuda.current_device()] if cuda else None
    model = model.cuda() if cuda else model
    if not dist.active():
        return DataParallel(model, device_ids=device_ids)
    return DistributedDataParallel(
        model,
        device_ids=device_ids,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
        static_graph=static_graph,
    )
