"""One YAML file becomes one typed, frozen ``Config``.

Unknown keys, wrong types and values out of range raise ``ConfigError`` with the key's full name and,
where a key was mistyped, the nearest valid one. Relative paths are relative to the file.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import Meta, Struct

from rayline.errors import ConfigError, NotFoundError, shown, suggestion

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]

Task = Literal["binary", "multiclass", "regression"]
ColumnKind = Literal["numeric", "categorical", "boolean", "datetime"]
DatePart = Literal["year", "month", "day", "weekday", "hour", "minute", "elapsed"]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: frozen, keyword-only, unknown keys refused."""


class SplitConfig(Section, frozen=True, kw_only=True):
    """How rows are divided: by ``hash`` of the row's content or of ``key``, or by ``time``.

    ``time`` takes the earliest rows for training and the latest for the test, in the order of ``column``, or in the
    order of the file where no column is named.
    """

    by: Literal["hash", "time"] = "hash"
    key: str | None = None
    column: str | None = None
    valid: Share = 0.15
    test: Share = 0.15

    def __post_init__(self) -> None:
        if self.valid + self.test >= 1:
            raise ValueError(f"valid ({self.valid}) and test ({self.test}) leave nothing to train on")
        if self.by == "time" and self.key is not None:
            raise ValueError("'key' belongs to 'by: hash'")
        if self.by == "hash" and self.column is not None:
            raise ValueError("'column' belongs to 'by: time'")


class DataConfig(Section, frozen=True, kw_only=True):
    """Where the table is: a path, glob or URI of CSV, Parquet or JSON lines, or ``sklearn:NAME``."""

    source: str
    format: Literal["auto", "csv", "parquet", "jsonl"] = "auto"
    split: SplitConfig = SplitConfig()


class ColumnConfig(Section, frozen=True, kw_only=True):
    """One input column. ``kind`` decides which of the other keys apply."""

    kind: ColumnKind
    impute: Literal["mean", "zero"] = "mean"
    scale: Literal["standard", "none"] = "standard"
    max_levels: Positive = 50
    parts: tuple[DatePart, ...] = ("year", "month", "day", "weekday", "hour")


class FeaturesConfig(Section, frozen=True, kw_only=True):
    """Which columns go in, and the target. No ``columns`` means: infer them, less ``drop``."""

    target: str
    task: Literal["auto"] | Task = "auto"
    columns: dict[str, ColumnKind | ColumnConfig] = {}
    drop: tuple[str, ...] = ()


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network. ``builder`` is ``mlp`` or ``my_package.my_module:build``; the rest is passed to it."""

    builder: str = "mlp"
    hidden: tuple[Positive, ...] = (64, 32)
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    options: dict[str, Any] = {}


class TrainConfig(Section, frozen=True, kw_only=True):
    """The ready training loop. ``metric`` is watched on the validation part: the best epoch is kept."""

    epochs: Positive = 30
    batch_size: Positive = 128
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    weight_decay: NonNegative = 1e-4
    metric: str = "loss"
    patience: Annotated[int, Meta(ge=0)] = 5
    num_workers: Positive = 1
    use_gpu: Literal["auto"] | bool = "auto"
    seed: int = 0


class Space(Section, frozen=True, kw_only=True):
    """What to search for one key: a list to ``choose`` from, or numbers from ``low`` to ``high``."""

    choose: Annotated[tuple[Any, ...], Meta(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        spans = self.low is not None and self.high is not None
        if (self.choose is not None) == spans:
            raise ValueError("needs either 'choose: [...]' or both 'low' and 'high'")
        if self.low is not None and self.high is not None:
            if not self.low < self.high:
                raise ValueError(f"low ({self.low}) must be below high ({self.high})")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic span needs low above 0, not {self.low}")


class TuneConfig(Section, frozen=True, kw_only=True):
    """A Study. Keys of ``space`` are configuration keys: ``train.learning_rate``, ``model.hidden``."""

    trials: Positive = 8
    space: dict[str, Space] = {}
    max_concurrent: Positive | None = None
    cpus_per_trial: Annotated[float, Meta(gt=0)] = 1.0
    grace_epochs: Positive = 4
    seed: int = 0


class EvaluateConfig(Section, frozen=True, kw_only=True):
    """The held-out evaluation. ``rows`` bounds how many test rows the plots draw."""

    rows: Positive = 10_000


class RegistryConfig(Section, frozen=True, kw_only=True):
    """MLflow. Without a ``tracking_uri`` it is SQLite under ``storage``."""

    tracking_uri: str | None = None
    experiment: str | None = None


class ServiceConfig(Section, frozen=True, kw_only=True):
    """The live endpoint. ``ingress`` is Serve's HAProxy, or its plain Python proxy."""

    replicas: Positive = 1
    num_cpus: Annotated[float, Meta(gt=0)] = 0.5
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    ingress: Literal["auto", "haproxy", "proxy"] = "auto"
    max_rows: Positive = 10_000


class MetricCondition(Section, frozen=True, kw_only=True):
    """One measure of an analysis, compared with a limit.

    ``measure`` is ``error_rate``, ``latency`` (seconds at ``quantile``), ``prediction_shift`` (Jensen-Shannon
    distance between the arms' predictions, 0 to 1), ``accuracy`` or ``mean_absolute_error`` (from feedback).
    ``max`` and ``min`` bound the canary itself; ``max_increase``, ``max_decrease`` and ``max_ratio`` bound it against
    the stable arm over the same window. Fewer than ``minimum_samples`` in an arm gives no verdict.
    """

    measure: Literal["error_rate", "latency", "prediction_shift", "accuracy", "mean_absolute_error"]
    quantile: Share = 0.95
    max: float | None = None
    min: float | None = None
    max_increase: NonNegative | None = None
    max_decrease: NonNegative | None = None
    max_ratio: Annotated[float, Meta(gt=0)] | None = None
    minimum_samples: Positive = 50


class AnalysisConfig(Section, frozen=True, kw_only=True):
    """Measures taken every ``interval`` seconds, ``count`` times; a window reaches back to the step's start."""

    metrics: Annotated[tuple[MetricCondition, ...], Meta(min_length=1)]
    interval: Annotated[float, Meta(gt=0)] = 5.0
    count: Positive = 3
    initial_delay: NonNegative = 0.0
    failure_limit: Annotated[int, Meta(ge=0)] = 0
    inconclusive_limit: Annotated[int, Meta(ge=0)] = 10


class Step(Section, frozen=True, kw_only=True):
    """One step of a plan: exactly one key is set. ``pause`` takes seconds, or ``true`` to wait for ``promote``."""

    set_weight: Percent | None = None
    pause: NonNegative | bool | None = None
    analysis: AnalysisConfig | bool | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.set_weight, self.pause, self.analysis)) != 1:
            raise ValueError("a step needs exactly one of 'set_weight', 'pause' and 'analysis'")
        if self.pause is False or self.analysis is False:
            raise ValueError("'false' means nothing here: leave the step out")


class RolloutConfig(Section, frozen=True, kw_only=True):
    """How a new version takes over. ``analysis: true`` in a step uses the ``analysis`` given here."""

    strategy: Literal["all_at_once", "canary"] = "canary"
    steps: tuple[Step, ...] = ()
    analysis: AnalysisConfig | None = None


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration of one project."""

    name: Name
    data: DataConfig
    features: FeaturesConfig
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    tune: TuneConfig | None = None
    evaluate: EvaluateConfig = EvaluateConfig()
    registry: RegistryConfig = RegistryConfig()
    service: ServiceConfig = ServiceConfig()
    rollout: RolloutConfig = RolloutConfig()
    storage: str = ".rayline"


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: the YAML file.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Returns:
        The configuration, with ``data.source``, ``storage`` and a file of ``registry.tracking_uri`` made absolute
        (other URIs are left alone).

    Raises:
        NotFoundError: there is no such file.
        ConfigError: the file is not YAML, or a key or value in it is wrong.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"configuration '{file}' does not exist. `rayline init DATA --target COLUMN` writes one.")
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, days that no calendar has
        raise ConfigError(f"configuration '{file}' is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"configuration '{file}' must be a mapping of sections, not {type(raw).__name__}.")
    for override in overrides:
        _override(raw, override)
    return _anchored(parse(raw), file.resolve().parent)


def parse(raw: Mapping[str, Any]) -> Config:
    """Return the typed configuration of a mapping, with its paths as they stand. Raises ``ConfigError``."""
    _refuse_unknown_keys(raw, Config, "")
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".") or "configuration"
        raise ConfigError(f"configuration key '{key}': {reason[:1].lower()}{reason[1:]}.") from error


def plain(section: Struct) -> dict[str, Any]:
    """Return a section as JSON-ready values: what is logged, hashed and written."""
    value: dict[str, Any] = msgspec.to_builtins(section)
    return value


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with dotted keys replaced: what a trial of a Study runs. Raises ``ConfigError``."""
    raw = plain(config)
    for key, value in values.items():
        _set(raw, key, value)
    return parse(raw)


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}' must read section.key=value, for instance train.epochs=5.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or error
        raise ConfigError(
            f"override '{override}': its value is not valid YAML: {reason}. Quote it or close it."
        ) from error
    _set(raw, key, value)


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    place = raw
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"key '{key}': '{part}' is {shown(place)}, not a section.")
    place[last] = value


def _refuse_unknown_keys(raw: object, kind: Any, place: str) -> None:
    """Walk the mapping beside its type, so that an unknown key can be told with the nearest valid one."""
    kinds = _alternatives(kind)
    if isinstance(raw, Mapping):
        struct = next((each for each in kinds if isinstance(each, type) and issubclass(each, Struct)), None)
        if struct is not None:
            fields = get_type_hints(struct, include_extras=True)
            for key, value in raw.items():
                if key not in fields:
                    raise ConfigError(f"unknown configuration key '{place}{key}'. {suggestion(str(key), fields)}")
                _refuse_unknown_keys(value, fields[key], f"{place}{key}.")
            return
        mapping = next((each for each in kinds if get_origin(each) is dict), None)
        if mapping is not None:
            for key, value in raw.items():
                _refuse_unknown_keys(value, get_args(mapping)[1], f"{place}{key}.")
    elif isinstance(raw, list):
        sequence = next((each for each in kinds if get_origin(each) is tuple), None)
        if sequence is not None:
            for index, value in enumerate(raw):
                _refuse_unknown_keys(value, get_args(sequence)[0], f"{place.rstrip('.')}[{index}].")


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [each for part in get_args(kind) for each in _alternatives(part)]
    return [kind]


def _anchored(config: Config, folder: Path) -> Config:
    source = config.data.source
    if not _has_scheme(source):
        source = str(folder / source)
    storage = config.storage if _has_scheme(config.storage) else str(folder / config.storage)
    data = msgspec.structs.replace(config.data, source=source)
    tracking = config.registry.tracking_uri
    registry = msgspec.structs.replace(config.registry, tracking_uri=tracking and _anchored_tracking(tracking, folder))
    return msgspec.structs.replace(config, data=data, storage=storage, registry=registry)


def _anchored_tracking(uri: str, folder: Path) -> str:
    parts = urlsplit(uri)
    if not parts.scheme:
        return str(folder / uri)
    relative = parts.path.removeprefix("/")  # three slashes and a relative path, or four and an absolute one
    if parts.scheme != "sqlite" or parts.netloc or not relative or relative.startswith(("/", ":memory:")):
        return uri
    return uri.replace(f"///{relative}", f"///{folder / relative}", 1)


def _has_scheme(location: str) -> bool:
    return "://" in location or location.startswith("sklearn:")
