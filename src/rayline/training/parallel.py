"""How several workers share one module: each has a copy (DDP), or its weights are divided among them (FSDP2).

Checkpoints are whole whatever divides the weights, so that any number of workers can go on from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from rayline.training.context import Place

WORTH_DIVIDING_ALONE = 1_000_000
"""Weights of a layer that is gathered by itself; smaller ones are gathered together, as each call has its price."""


@dataclass(frozen=True, slots=True)
class Whole:
    """All weights and the optimizer's whole state, on the CPU; empty on workers that write no checkpoint."""

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]


class Parallel(Protocol):
    """What several workers do with one module. Every worker calls each function at the same time."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module that a step runs. The optimizer is made of its parameters, after this."""
        ...

    def whole(self, module: nn.Module, optimizer: Optimizer) -> Whole:
        """Return what a checkpoint needs of the module that was given to ``wrap``."""
        ...

    def load(self, module: nn.Module, optimizer: Optimizer, whole: Whole) -> None:
        """Set what ``whole`` gave, with any number of workers."""
        ...


class Copies:
    """One module in each worker; gradients are averaged where there are several (DDP)."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself, or in a group one whose backward pass averages the gradients."""
        from torch import distributed
        from torch.nn.parallel import DistributedDataParallel

        if self._place.world == 1 or not distributed.is_initialized():
            return module

        return DistributedDataParallel(module, device_ids=None if self._place.device == "cpu" else [self._place.device])

    def whole(self, module: nn.Module, optimizer: Optimizer) -> Whole:
        """Return copies of the first worker's weights: safetensors refuses tensors that share memory, as tied ones."""
        if self._place.rank:
            return Whole({}, {})
        weights = {name: each.detach().cpu().contiguous().clone() for name, each in module.state_dict().items()}
        return Whole(weights, optimizer.state_dict())

    def load(self, module: nn.Module, optimizer: Optimizer, whole: Whole) -> None:
        """Set weights and optimizer."""
        module.load_state_dict(dict(whole.weights))
        optimizer.load_state_dict(dict(whole.optimizer))


class Shards:
    """Each worker holds its part of every weight and gathers the whole layer by layer as it computes (FSDP2)."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def wrap(self, module: nn.Module) -> nn.Module:
        """Divide the module's weights, in place."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self._place.device.partition(":")[0], (self._place.world,))
        for layer in module.modules():
            if layer is not module and sum(each.numel() for each in layer.parameters(False)) >= WORTH_DIVIDING_ALONE:
                fully_shard(layer, mesh=mesh)
        fully_shard(module, mesh=mesh)
        return module

    def whole(self, module: nn.Module, optimizer: Optimizer) -> Whole:
        """Gather weights and optimizer on the first worker."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights, state = get_state_dict(module, optimizer, options=options)
        return Whole({name: each.contiguous().clone() for name, each in weights.items()}, state)

    def load(self, module: nn.Module, optimizer: Optimizer, whole: Whole) -> None:
        """Give every worker its part."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        set_state_dict(
            module,
            optimizer,
            model_state_dict=dict(whole.weights),
            optim_state_dict=dict(whole.optimizer),
            options=options,
        )


def parallel_of(kind: Literal["ddp", "fsdp"], place: Place) -> Parallel:
    """Return what ``train.parallel`` asks for; outside a group there is nothing to divide."""
    from torch import distributed

    return Shards(place) if kind == "fsdp" and distributed.is_initialized() else Copies(place)
