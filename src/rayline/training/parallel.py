"""How several workers share one module: each has a copy (DDP), or its weights are divided among them (FSDP2).

Checkpoints are whole whatever divides the weights (``snapshot``), so that any number of workers can go on from them.
"""

from __future__ import annotations

from torch import nn

from rayline.training.context import Place

WORTH_DIVIDING_ALONE = 1_000_000
"""Weights of a layer that is gathered by itself; smaller ones are gathered together, as each call has its price."""


def shared_among_workers(module: nn.Module, kind: str, place: Place) -> nn.Module:
    """Return the module that a step runs, which is the module itself outside a group.

    Args:
        module: on its device; the optimizer is made of its parameters after this.
        kind: ``ddp`` or ``fsdp``.
        place: of this worker; every worker calls this at the same time.
    """
    from torch import distributed

    if not distributed.is_initialized():
        return module
    if kind == "fsdp":
        return _divided(module, place)
    return _copied(module, place) if place.world > 1 else module


def _copied(module: nn.Module, place: Place) -> nn.Module:
    """Return a module whose backward pass averages the workers' gradients."""
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module, device_ids=None if place.device == "cpu" else [place.device])


def _divided(module: nn.Module, place: Place) -> nn.Module:
    """Divide the weights, in place: a worker gathers the whole of them layer by layer as it computes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(place.device.partition(":")[0], (place.world,))
    for layer in list(module.modules()):
        if layer is not module and sum(each.numel() for each in layer.parameters(False)) >= WORTH_DIVIDING_ALONE:
            fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module
