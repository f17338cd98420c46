"""How several workers share one module: each has a copy (DDP), or its weights are divided among them (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import distributed, nn

from rayline.training.context import Place

WORTH_DIVIDING_ALONE = 1_000_000
"""Weights of a layer that is gathered by itself; smaller ones are gathered together, as each call has its price."""


def wrapper_of(kind: Literal["ddp", "fsdp"], place: Place) -> Callable[[nn.Module], nn.Module]:
    """Return what ``train.parallel`` does to a module before its optimizer is made; nothing outside a group."""
    if not distributed.is_initialized():
        return lambda module: module
    return lambda module: _divided(module, place) if kind == "fsdp" else _copied(module, place)


def _copied(module: nn.Module, place: Place) -> nn.Module:
    """Return one whose backward pass averages the workers' gradients."""
    from torch.nn.parallel import DistributedDataParallel

    if place.world == 1:
        return module
    return DistributedDataParallel(module, device_ids=None if place.device == "cpu" else [place.device])


def _divided(module: nn.Module, place: Place) -> nn.Module:
    """Divide the weights, in place: each worker gathers the whole of a layer as it computes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(place.device.partition(":")[0], (place.world,))
    for layer in list(module.modules()):
        own = sum(each.numel() for each in layer.parameters(recurse=False))
        if layer is not module and own >= WORTH_DIVIDING_ALONE:
            fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module
