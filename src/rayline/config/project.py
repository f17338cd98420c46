"""The whole configuration of one project."""

from __future__ import annotations

from rayline.config.cluster import ClusterConfig
from rayline.config.data import DataConfig
from rayline.config.evaluation import EvaluateConfig
from rayline.config.features import FeaturesConfig
from rayline.config.gates import CardConfig
from rayline.config.model import ModelConfig
from rayline.config.registry import RegistryConfig
from rayline.config.rollout import RolloutConfig
from rayline.config.section import Name, Section
from rayline.config.service import ServiceConfig
from rayline.config.training import TrainConfig
from rayline.config.tuning import TuneConfig
from rayline.config.validation import ValidateConfig


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration of one project.

    Attributes:
        storage: where the project's state lies: a folder that every node sees, or a bucket and a prefix in it, as
            ``s3://``, ``gs://`` or ``az://``.
        home: the folder of the project's own modules and of its git commit; default: that of the configuration file.
    """

    name: Name
    data: DataConfig = DataConfig()
    features: FeaturesConfig
    validate: ValidateConfig = ValidateConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    tune: TuneConfig | None = None
    evaluate: EvaluateConfig = EvaluateConfig()
    registry: RegistryConfig = RegistryConfig()
    service: ServiceConfig = ServiceConfig()
    rollout: RolloutConfig = RolloutConfig()
    card: CardConfig = CardConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: str = ".rayline"
    home: str = ""
