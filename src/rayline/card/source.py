"""What a model card is written from, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rayline.config import Config
from rayline.evaluation.gates import Judgement

if TYPE_CHECKING:
    import pyarrow as pa

    from rayline.registry.bundle import Bundle
    from rayline.registry.store import Version


@dataclass(frozen=True, slots=True)
class CardSource:
    """All that a card tells of one version.

    Attributes:
        config: how it was made, with the ``card`` section of people's own words.
        bundle: what serves.
        version: its number, its run and when it was registered.
        training: the result of the step that trained it, with ``seconds``.
        evaluation: ``evaluation.json``; it may lack what was not measured.
        judgement: how its gates and behavioural tests came out.
        test: raw rows of the test part.
        plots: PNG files by name, such as ``calibration``.
    """

    config: Config
    bundle: Bundle
    version: Version
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    judgement: Judgement
    test: pa.Table
    plots: Mapping[str, bytes] = field(default_factory=dict)
