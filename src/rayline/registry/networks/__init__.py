"""The networks that a bundle may hold, one file each: what is written of a checkpoint, and what answers once loaded.

| file | what it is | loaded by |
| --- | --- | --- |
| ``model.safetensors`` | the weights of the ready-made MLP | NumPy alone |
| ``model.pt2`` | any other PyTorch module, as a ``torch.export`` program | torch |
| ``model.skops`` | an estimator of scikit-learn | skops and scikit-learn |
| ``model.json`` | XGBoost's own JSON model | XGBoost |
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rayline.config import ModelConfig
from rayline.errors import BundleError, NotFoundError
from rayline.model import build_module, family_of, outputs_for
from rayline.registry.manifest import BOOSTER, ESTIMATOR, MLP_WEIGHTS, PROGRAM

if TYPE_CHECKING:
    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.networks.seam import Network

CHECKPOINT_FILES = {"torch": "model.safetensors", "sklearn": ESTIMATOR, "xgboost": BOOSTER}
"""What a family's checkpoint holds, and a network is made of."""

PACKAGES = {PROGRAM: ("torch",), ESTIMATOR: ("scikit-learn", "skops"), BOOSTER: ("xgboost",)}
"""The packages beside Rayline's least that a network needs where it is loaded."""


def write_network(folder: Path, features: FittedFeatureSet, model: ModelConfig, checkpoint: Path) -> None:
    """Write the network of a checkpoint into a bundle's folder.

    Raises:
        NotFoundError: the checkpoint has no file of its family.
        BundleError: the module was changed since the training, or cannot be exported.
        ConfigError: the module's builder cannot be imported.
    """
    name = CHECKPOINT_FILES[family_of(model.builder)]
    kept = checkpoint / name
    if not kept.is_file():
        raise NotFoundError(f"checkpoint '{checkpoint}' has no {name}. Train with `rayline run --fresh`.")
    if name != MLP_WEIGHTS or model.builder == "mlp":
        shutil.copyfile(kept, folder / name)
        return
    from safetensors.torch import load_file

    from rayline.registry.networks.program import export

    outputs = outputs_for(features.task, features.classes)
    module = build_module(model, features.layout, outputs)
    try:
        module.load_state_dict(load_file(str(kept)))
    except RuntimeError as error:
        raise BundleError(
            f"checkpoint '{kept}' does not fit the module of '{model.builder}': {error}. The builder was changed"
            " since the training; train again with `rayline run --fresh`."
        ) from error
    export(module, features.width, outputs, folder / PROGRAM)


def read_network(name: str, content: bytes, features: FittedFeatureSet, place: str) -> Network:
    """Return the network of a bundle's file.

    Args:
        name: the file's name, which says what it is.
        content: the file, known to be the manifest's.
        features: whose numbers it answers.
        place: the file, as messages name it.

    Raises:
        BundleError: it holds code or what may not load, is damaged, or does not fit the features.
        EnvironmentFailed: a package that it needs is not installed.
    """
    inputs, outputs, task = features.width, outputs_for(features.task, features.classes), features.task
    if name == PROGRAM:
        from rayline.registry.networks.program import load

        return load(content, place)
    if name == ESTIMATOR:
        from rayline.registry.networks.estimator import EstimatorNetwork

        return EstimatorNetwork.from_skops(content, inputs, outputs, task, place)
    if name == BOOSTER:
        from rayline.registry.networks.booster import BoosterNetwork

        return BoosterNetwork.from_json(content, inputs, outputs, task, place)
    from rayline.registry.networks.mlp import MlpNetwork

    return MlpNetwork.from_safetensors(content, inputs, outputs, place)
