"""An image in each row, height by width or height by width by channels. A missing one is zeros."""

from __future__ import annotations

from typing import cast

from rayline.config import ImageConfig
from rayline.errors import DataError
from rayline.features.kinds.elements import ArrayColumn, divided, standardised
from rayline.features.kinds.seam import Extras, Feature, Kind, Observed
from rayline.features.reading.batch import Batch
from rayline.features.sketches import Moments

WHITE = 255.0


def _observe(feature: Feature, batch: Batch) -> Extras:
    """Return the moments of each channel over all pixels of all images."""
    if _setting(feature).scale != "standard":
        return {}
    present = batch.values(feature.input.name, "image").present
    channels = _channels(_shape(feature))
    return {_channel(each): Moments.of(present[:, each::channels].reshape(-1)) for each in range(channels)}


def _finish(feature: Feature, observed: Observed) -> ArrayColumn:
    scale = divided(WHITE if _setting(feature).scale == "unit" else 1.0)
    shape = _shape(feature)
    if _setting(feature).scale == "standard":
        moments = [cast(Moments, observed.extras[_channel(each)]) for each in range(_channels(shape))]
        if moments[0].count:
            means = tuple(each.mean for each in moments)
            scale = standardised(means, tuple(each.std if each.varies else 0.0 for each in moments))
    return ArrayColumn("image", feature.name, feature.input.name, shape, **scale)


def _shape(feature: Feature) -> tuple[int, ...]:
    """Return the images' shape. Raises ``DataError`` where the schema has none."""
    shape = feature.input.shape or ()
    if len(shape) not in (2, 3) or not all(shape):
        found = f"arrays of {' by '.join(map(str, shape))}" if shape else "no arrays"
        raise DataError(
            f"image column '{feature.input.name}' has {found}: an image is height by width or height by width by "
            "channels. Declare the column as a vector, or leave it out (features.drop)."
        )
    return shape


def _channels(shape: tuple[int, ...]) -> int:
    return shape[2] if len(shape) == 3 else 1


def _channel(number: int) -> str:
    return f"channel {number}"


def _setting(feature: Feature) -> ImageConfig:
    assert isinstance(feature.setting, ImageConfig)
    return feature.setting


KIND = Kind("image", _finish, ArrayColumn.restored, _observe)
