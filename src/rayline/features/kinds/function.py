"""A user's own function over arrays, recorded as a plan of NumPy operations: what serves needs none of its code.

A result that is NaN or infinite (a ratio with nothing below the line, a logarithm of nothing) has no value: it becomes
the mean of the training part's other results. Finite results are cut to 1e100 before they are scaled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import FeaturesConfig, FunctionConfig, SklearnConfig
from rayline.errors import ConfigError
from rayline.features.imported import imported
from rayline.features.kinds.inputs import Doubles, Input, arrays_of, inputs_of, row_reader
from rayline.features.kinds.numeric import IDENTITY
from rayline.features.kinds.seam import Extras, Feature, Filler, Kind, Observed
from rayline.features.reading.arrow_values import LIMIT
from rayline.features.reading.batch import Batch
from rayline.features.recorded import Plan, Recorded, prove, record
from rayline.features.recorded.expression import expression
from rayline.features.scales import Scale
from rayline.features.schemas.schema import digest_of
from rayline.features.sketches import Moments

PATH = re.compile(r"[\w.]+:\w+")  # anything else is a formula


@dataclass(frozen=True, slots=True)
class FunctionColumn:
    """The outputs of a plan, each scaled.

    Attributes:
        function: where it came from, for people.
        columns: the raw columns, in the order of the plan's inputs.
        suffixes: one text per output, which follows the feature's name.
        fills: what stands for an output without a value, before scaling.
    """

    name: str
    function: str
    columns: tuple[Input, ...]
    plan: Plan
    suffixes: tuple[str, ...]
    fills: tuple[float, ...]
    scales: tuple[Scale, ...]
    kind: str = "function"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The raw columns."""
        return tuple(each.name for each in self.columns)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The feature's own name, ``name[0]``, ``name[1]`` and so on for a tuple, or ``name.key`` for a mapping."""
        return tuple(f"{self.name}{suffix}" for suffix in self.suffixes)

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        results = self.plan.many(arrays_of(batch, self.columns))
        for place, (result, fill, scale) in enumerate(zip(results, self.fills, self.scales, strict=True)):
            values = np.where(np.isfinite(result), result, fill)
            out[:, place] = scale.many(np.clip(values, -LIMIT, LIMIT))

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        values_of, run, fills = row_reader(self.columns), self.plan.one(), self.fills
        scales = tuple((each.mean, each.std, each.bound) for each in self.scales)
        places = tuple(zip(range(offset, offset + len(fills)), fills, scales, strict=True))

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            for (at, missing, (mean, std, bound)), value in zip(places, run(values_of(row)), strict=True):
                valued = value if -LIMIT <= value <= LIMIT else _cut(value, missing)
                scaled = (valued - mean) / std
                out[at] = -bound if scaled < -bound else bound if scaled > bound else scaled

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "function": self.function,
            "columns": [[each.name, each.kind] for each in self.columns],
            "plan": self.plan.to_json(),
            "outputs": [
                {"suffix": suffix, "fill": fill, "mean": scale.mean, "std": scale.std, "bound": scale.bound}
                for suffix, fill, scale in zip(self.suffixes, self.fills, self.scales, strict=True)
            ],
        }


def source_of(name: str, setting: FunctionConfig | SklearnConfig) -> str:
    """Return what must be part of a features step's content address beside the setting itself.

    For a function it is a digest of its recording: a change of the function, or of anything that it calls, gives
    another one, and a change of a comment does not. For scikit-learn it is the version that fits.

    Raises:
        ConfigError: the function cannot be imported or recorded.
    """
    if isinstance(setting, SklearnConfig):
        from importlib.metadata import version

        return f"scikit-learn {version('scikit-learn')}"
    _, recorded = _recorded(name, setting)
    return digest_of({"plan": recorded.plan.to_json(), "outputs": list(recorded.suffixes)})


def depends(feature: Feature) -> dict[str, Any]:
    """Return ``source_of`` a feature, as JSON-ready values."""
    assert isinstance(feature.setting, (FunctionConfig, SklearnConfig))
    return {"source": source_of(feature.name, feature.setting)}


def sources_of(features: FeaturesConfig) -> dict[str, str]:
    """Return ``source_of`` for every declared feature that has one, by its name. Raises ``ConfigError`` as that."""
    return {
        name: source_of(name, setting)
        for name, setting in features.columns.items()
        if isinstance(setting, (FunctionConfig, SklearnConfig))
    }


def function_column(
    name: str,
    source: str,
    columns: Sequence[Input],
    recorded: Recorded,
    fills: Sequence[float],
    *,
    kind: str = "function",
) -> FunctionColumn:
    """Return a column that gives a plan's outputs as they are, cut to what a 32-bit float holds."""
    scales = (IDENTITY,) * len(recorded.suffixes)
    return FunctionColumn(name, source, tuple(columns), recorded.plan, recorded.suffixes, tuple(fills), scales, kind)


def restored(raw: Mapping[str, Any]) -> FunctionColumn:
    """Return the column of ``to_json``'s values. Raises ``KeyError``, ``TypeError`` or ``SchemaError``."""
    outputs = raw["outputs"]
    return FunctionColumn(
        raw["name"],
        raw["function"],
        tuple(Input(name, kind) for name, kind in raw["columns"]),
        Plan.from_json(raw["plan"]),
        tuple(each["suffix"] for each in outputs),
        tuple(each["fill"] for each in outputs),
        tuple(Scale(each["mean"], each["std"], each["bound"]) for each in outputs),
        raw["kind"],
    )


def _observe(feature: Feature, batch: Batch) -> Extras:
    """Prove the recording on the batch's rows, and look at its results."""
    setting, inputs = _setting(feature), inputs_of(feature)
    function, recorded = _recorded(feature.name, setting)
    arrays = arrays_of(batch, inputs)
    prove(function, recorded.plan, arrays, [each.name for each in inputs], _place(feature.name, setting))
    results = recorded.plan.many(arrays) if len(batch) else [np.zeros(0)] * len(recorded.suffixes)
    return {f"result{place}": Moments.of(_valued(result)) for place, result in enumerate(results)}


def _finish(feature: Feature, observed: Observed) -> FunctionColumn:
    setting = _setting(feature)
    _, recorded = _recorded(feature.name, setting)
    fills, scales = [], []
    for place in range(len(recorded.suffixes)):
        moments = observed.extras.get(f"result{place}", Moments())
        assert isinstance(moments, Moments)
        fills.append(moments.mean)
        scales.append(Scale.standard(moments) if setting.scale == "standard" else IDENTITY)
    return FunctionColumn(
        feature.name,
        setting.function,
        inputs_of(feature),
        recorded.plan,
        recorded.suffixes,
        tuple(fills),
        tuple(scales),
    )


def _recorded(name: str, setting: FunctionConfig) -> tuple[Callable[..., Any], Recorded]:
    place = _place(name, setting)
    if PATH.fullmatch(setting.function):
        function = imported(setting.function, f"features.columns.{name}.function")
        if not callable(function):
            raise ConfigError(f"{place} is a {type(function).__name__}, which cannot be called.")
    else:
        function = expression(setting.function, setting.inputs, f"features.columns.{name}.function")
    return function, record(function, len(setting.inputs), place)


def _place(name: str, setting: FunctionConfig) -> str:
    return f"features.columns.{name}: function '{setting.function}'"


def _valued(results: Doubles) -> Doubles:
    valued: Doubles = np.clip(results[np.isfinite(results)], -LIMIT, LIMIT)
    return valued


def _cut(value: float, missing: float) -> float:
    if value - value != 0:  # NaN or infinite
        return missing
    return min(max(value, -LIMIT), LIMIT)


def _setting(feature: Feature) -> FunctionConfig:
    assert isinstance(feature.setting, FunctionConfig)
    return feature.setting


KIND = Kind("function", _finish, restored, _observe, depends=depends)
