"""Rayline takes a model from a table of data to live traffic on one Ray cluster, and back when it misbehaves.

Each name below is loaded on first use: ``import rayline`` alone loads neither Ray, nor MLflow, nor PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayline.cluster import connect, stop
    from rayline.config import Config
    from rayline.config import load as load_config
    from rayline.errors import RaylineError
    from rayline.features.feature_set import FeatureSet
    from rayline.features.transform import FittedFeatureSet
    from rayline.flow import Outcome, run
    from rayline.registry.bundle import Bundle
    from rayline.registry.predictor import Predictions, Predictor
    from rayline.registry.store import Version
    from rayline.rollout.plans.plan import Plan
    from rayline.serving.records.captured import captured
    from rayline.serving.service import Service

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "rayline.registry.bundle:Bundle",
    "Config": "rayline.config:Config",
    "FeatureSet": "rayline.features.feature_set:FeatureSet",
    "FittedFeatureSet": "rayline.features.transform:FittedFeatureSet",
    "Outcome": "rayline.flow:Outcome",
    "Plan": "rayline.rollout.plans.plan:Plan",
    "Predictions": "rayline.registry.predictor:Predictions",
    "Predictor": "rayline.registry.predictor:Predictor",
    "RaylineError": "rayline.errors:RaylineError",
    "Service": "rayline.serving.service:Service",
    "Version": "rayline.registry.store:Version",
    "captured": "rayline.serving.records.captured:captured",
    "connect": "rayline.cluster:connect",
    "load_config": "rayline.config:load",
    "run": "rayline.flow:run",
    "stop": "rayline.cluster:stop",
}

__all__ = [
    "Bundle",
    "Config",
    "FeatureSet",
    "FittedFeatureSet",
    "Outcome",
    "Plan",
    "Predictions",
    "Predictor",
    "RaylineError",
    "Service",
    "Version",
    "__version__",
    "captured",
    "connect",
    "load_config",
    "run",
    "stop",
]


def __getattr__(name: str) -> Any:
    try:
        module, _, attribute = _HOMES[name].partition(":")
    except KeyError:
        raise AttributeError(f"module 'rayline' has no attribute '{name}'") from None
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
