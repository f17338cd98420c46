"""Numbers of a fixed length in each row, such as an embedding: scaled element by element. A missing one is zeros."""

from __future__ import annotations

import math
from typing import cast

from rayline.config import VectorConfig
from rayline.errors import DataError
from rayline.features.kinds.elements import ArrayColumn, divided, standardised
from rayline.features.kinds.seam import Extras, Feature, Kind, Observed
from rayline.features.reading.batch import Batch
from rayline.features.sketches import VectorMoments

MOMENTS = "elements"


def _observe(feature: Feature, batch: Batch) -> Extras:
    if not _standard(feature):
        return {}
    return {MOMENTS: VectorMoments.of(batch.values(feature.input.name, "vector").present)}


def _finish(feature: Feature, observed: Observed) -> ArrayColumn:
    shape = feature.input.shape
    if not shape or not math.prod(shape):
        raise DataError(
            f"the schema gives no length for vector column '{feature.input.name}': no row has had an array. "
            "Make the schema anew from data that has some, or leave the column out (features.drop)."
        )
    scale = divided(1.0)
    if _standard(feature):
        moments = cast(VectorMoments, observed.extras[MOMENTS])
        # No row of the training part may have had an array.
        scale = standardised(moments.means, moments.deviations) if moments.count else scale
    return ArrayColumn("vector", feature.name, feature.input.name, shape, **scale)


def _standard(feature: Feature) -> bool:
    assert isinstance(feature.setting, VectorConfig)
    return feature.setting.scale == "standard"


KIND = Kind("vector", _finish, ArrayColumn.restored, _observe)
