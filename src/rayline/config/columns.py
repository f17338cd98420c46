"""The declaration of one feature, a section per kind: ``features.columns.NAME``.

``kind`` tells which section applies. ``source`` names the raw column where the feature is not called like it, so that
one column may give several features.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from rayline.config.section import NonNegative, Positive, Section

ColumnKind = Literal["numeric", "categorical", "boolean", "datetime", "text", "vector", "image"]
"""How a raw column is read. Each is also a kind of feature that needs no other setting."""

DatePart = Literal["year", "month", "day", "weekday", "hour", "minute", "elapsed"]

READ_KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)


class ColumnBase(Section, frozen=True, kw_only=True, tag_field="kind"):
    """What all kinds have. ``source`` is the raw column; None means the one of the feature's own name."""

    source: str | None = None


class NumericConfig(ColumnBase, frozen=True, kw_only=True, tag="numeric"):
    """One number. The order is: impute, clip, log, then scale or bins.

    Attributes:
        impute: what stands for a missing value: the training part's mean or median, zero, or a number.
        flag: add a second output, 1 where the value was missing.
        clip: cut to ``[low, high]``, in the column's own units.
        log: ``sign(x) * log(1 + |x|)``; makes no difference to ``quantile`` and ``bins``.
        scale: ``standard`` (mean 0, deviation 1), ``minmax`` (0 to 1), ``robust`` (median 0, interquartile range 1),
            ``quantile`` (the share of training values below, 0 to 1) or ``none``.
        bins: instead of a number, one output for each of about so many bins with equally many training values.
    """

    impute: Literal["mean", "median", "zero"] | float = "mean"
    flag: bool = False
    clip: tuple[float, float] | None = None
    log: bool = False
    scale: Literal["standard", "minmax", "robust", "quantile", "none"] = "standard"
    bins: Annotated[int, Meta(ge=2, le=1000)] | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip needs [low, high] with low below high, not {list(self.clip)}")


class CategoricalConfig(ColumnBase, frozen=True, kw_only=True, tag="categorical"):
    """One level of several.

    Attributes:
        encode: ``one_hot`` (an output per level, one for unknown, one for missing), ``ordinal`` (place in the natural
            order from 0; unknown -1, missing -2), ``index`` (for embeddings: 0 missing, 1 unknown, levels from 2, the
            most frequent first), ``frequency`` (share of training rows, of those without a value too; unknown 0),
            ``hashing`` (one of ``buckets`` outputs, no levels kept; missing is zeros) or ``target`` (mean of the
            target, cross-fitted over ``folds`` in the training part: the share of each class, or deviations from a
            regression's overall mean; missing is a level of its own, unknown the overall mean).
        max_levels: how many levels are kept, the most frequent first; the others are unknown.
        min_count: a level of fewer training rows is unknown too.
        smoothing: for ``target``, how many rows of the overall mean are added to each level.
    """

    encode: Literal["one_hot", "ordinal", "index", "frequency", "hashing", "target"] = "one_hot"
    max_levels: Positive = 50
    min_count: Positive = 1
    buckets: Annotated[int, Meta(ge=2, le=65_536)] = 64
    folds: Annotated[int, Meta(ge=2, le=20)] = 5
    smoothing: NonNegative = 10.0


class BooleanConfig(ColumnBase, frozen=True, kw_only=True, tag="boolean"):
    """0 or 1; a missing value becomes the share of true rows."""


class DatetimeConfig(ColumnBase, frozen=True, kw_only=True, tag="datetime"):
    """Calendar parts. With ``reference``, a date or a time, also ``age``: days since it, standardised."""

    parts: tuple[DatePart, ...] = ("year", "month", "day", "weekday", "hour")
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.reference is None:
            return
        try:
            datetime.fromisoformat(self.reference)
        except ValueError:
            raise ValueError(
                f"reference needs an ISO 8601 date or time, such as 2012-07-31, not '{self.reference}'"
            ) from None


class TextConfig(ColumnBase, frozen=True, kw_only=True, tag="text"):
    """Hashed n-grams of words or characters, weighted by rarity (TF-IDF) and of length 1.

    Attributes:
        ngrams: the shortest and the longest.
        idf: weigh by the smoothed inverse document frequency of the training part.
    """

    analyzer: Literal["word", "char"] = "word"
    ngrams: tuple[Positive, Positive] = (1, 1)
    buckets: Annotated[int, Meta(ge=2, le=65_536)] = 256
    lowercase: bool = True
    idf: bool = True

    def __post_init__(self) -> None:
        if self.ngrams[0] > self.ngrams[1] or self.ngrams[1] > 8:
            raise ValueError(f"ngrams needs [shortest, longest] with 1 <= shortest <= longest <= 8, not {self.ngrams}")


class VectorConfig(ColumnBase, frozen=True, kw_only=True, tag="vector"):
    """Numbers of a fixed length, as an array in each row; scaled element by element."""

    scale: Literal["standard", "none"] = "standard"


class ImageConfig(ColumnBase, frozen=True, kw_only=True, tag="image"):
    """An array of a fixed shape in each row, height by width or height by width by channels.

    ``scale``: ``unit`` divides by 255, ``standard`` standardises each channel, ``none`` leaves the numbers alone.
    """

    scale: Literal["unit", "standard", "none"] = "unit"


class FunctionConfig(ColumnBase, frozen=True, kw_only=True, tag="function"):
    """A user's own function over arrays, ``my_package.my_module:name``, or a formula such as ``log1p(price / area)``.

    It takes one float64 array per name in ``inputs`` (NaN where missing) and returns one array, or a tuple of them. It
    is recorded as a plan of NumPy operations: what serves needs none of its code.
    """

    function: str
    inputs: Annotated[tuple[str, ...], Meta(min_length=1)]
    scale: Literal["standard", "none"] = "standard"


class SklearnConfig(ColumnBase, frozen=True, kw_only=True, tag="sklearn"):
    """A scikit-learn transformer, ``sklearn.preprocessing:PowerTransformer``, fitted on a sample of training rows."""

    transformer: str
    inputs: Annotated[tuple[str, ...], Meta(min_length=1)]
    options: dict[str, Any] = {}


ColumnConfig = (
    NumericConfig
    | CategoricalConfig
    | BooleanConfig
    | DatetimeConfig
    | TextConfig
    | VectorConfig
    | ImageConfig
    | FunctionConfig
    | SklearnConfig
)

CONFIG_OF: dict[str, type[ColumnBase]] = {each.__struct_config__.tag: each for each in get_args(ColumnConfig)}


def column_config(declared: ColumnKind | ColumnConfig) -> ColumnConfig:
    """Return the section of a feature that may be declared by its kind alone."""
    if isinstance(declared, str):
        section: ColumnConfig = CONFIG_OF[declared]()  # type: ignore[assignment]
        return section
    return declared


def kind_of(setting: ColumnConfig) -> str:
    """Return the kind's name, as configurations write it."""
    return str(setting.__struct_config__.tag)
