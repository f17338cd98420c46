"""The typed, frozen configuration of a project; ``reading`` makes it of a YAML file."""

from rayline.config.analysis import AnalysisConfig, BackgroundConfig, Measure, MetricCondition
from rayline.config.changes import changes
from rayline.config.cluster import ClusterConfig
from rayline.config.columns import (
    CONFIG_OF,
    READ_KINDS,
    BooleanConfig,
    CategoricalConfig,
    ColumnBase,
    ColumnConfig,
    ColumnKind,
    DatePart,
    DatetimeConfig,
    FunctionConfig,
    ImageConfig,
    NumericConfig,
    SklearnConfig,
    TextConfig,
    VectorConfig,
    column_config,
    kind_of,
)
from rayline.config.data import DataConfig, SplitConfig, SqlConfig
from rayline.config.evaluation import CostConfig, EvaluateConfig, LimitsConfig, SliceConfig
from rayline.config.features import FeaturesConfig
from rayline.config.gates import (
    BehaviourConfig,
    CardConfig,
    DirectionConfig,
    GateConfig,
    InvarianceConfig,
)
from rayline.config.history import JoinConfig, OnlineConfig, WindowConfig
from rayline.config.hooks import HookConfig
from rayline.config.model import ModelConfig
from rayline.config.project import Config
from rayline.config.reading import load, parse, plain, typed, with_values
from rayline.config.registry import RegistryConfig
from rayline.config.rollout import (
    BakeConfig,
    BlueGreenConfig,
    ExperimentConfig,
    LinearConfig,
    MirrorConfig,
    PauseConfig,
    RolloutConfig,
    RouteConfig,
    ShadowConfig,
    Step,
)
from rayline.config.section import Section, Task
from rayline.config.service import (
    AccessConfig,
    AutoscalingConfig,
    BatchingConfig,
    CaptureConfig,
    Placement,
    ServiceConfig,
)
from rayline.config.training import CheckpointConfig, TrainConfig
from rayline.config.tuning import Space, StopConfig, TuneConfig
from rayline.config.validation import Environment, PoliciesConfig, Policy, ValidateConfig

__all__ = [
    "CONFIG_OF",
    "READ_KINDS",
    "AccessConfig",
    "AnalysisConfig",
    "AutoscalingConfig",
    "BackgroundConfig",
    "BakeConfig",
    "BatchingConfig",
    "BehaviourConfig",
    "BlueGreenConfig",
    "BooleanConfig",
    "CaptureConfig",
    "CardConfig",
    "CategoricalConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "ColumnBase",
    "ColumnConfig",
    "ColumnKind",
    "Config",
    "CostConfig",
    "DataConfig",
    "DatePart",
    "DatetimeConfig",
    "DirectionConfig",
    "Environment",
    "EvaluateConfig",
    "ExperimentConfig",
    "FeaturesConfig",
    "FunctionConfig",
    "GateConfig",
    "HookConfig",
    "ImageConfig",
    "InvarianceConfig",
    "JoinConfig",
    "LimitsConfig",
    "LinearConfig",
    "Measure",
    "MetricCondition",
    "MirrorConfig",
    "ModelConfig",
    "NumericConfig",
    "OnlineConfig",
    "PauseConfig",
    "Placement",
    "PoliciesConfig",
    "Policy",
    "RegistryConfig",
    "RolloutConfig",
    "RouteConfig",
    "Section",
    "ServiceConfig",
    "ShadowConfig",
    "SklearnConfig",
    "SliceConfig",
    "Space",
    "SplitConfig",
    "SqlConfig",
    "Step",
    "StopConfig",
    "Task",
    "TextConfig",
    "TrainConfig",
    "TuneConfig",
    "ValidateConfig",
    "VectorConfig",
    "WindowConfig",
    "changes",
    "column_config",
    "kind_of",
    "load",
    "parse",
    "plain",
    "typed",
    "with_values",
]
