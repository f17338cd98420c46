"""Partial states of a fit: each is made of some rows, merges with others in any order, and has a JSON form.

All but ``Levels`` and ``TargetSums`` beyond their capacity are exact or depend on nothing but the set of rows, so a fit
is the same however the rows were ordered, cut into blocks or spread over workers.
"""

from rayline.features.sketches.distinct import Distinct
from rayline.features.sketches.documents import Documents
from rayline.features.sketches.levels import Levels
from rayline.features.sketches.moments import Moments
from rayline.features.sketches.quantiles import Quantiles
from rayline.features.sketches.sample import Sample
from rayline.features.sketches.seam import Sketch, restored
from rayline.features.sketches.targets import TargetSums
from rayline.features.sketches.vector_moments import VectorMoments

__all__ = [
    "Distinct",
    "Documents",
    "Levels",
    "Moments",
    "Quantiles",
    "Sample",
    "Sketch",
    "TargetSums",
    "VectorMoments",
    "restored",
]
