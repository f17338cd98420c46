"""``features``: which columns go in, and the target."""

from __future__ import annotations

from typing import Literal

from rayline.config.columns import ColumnConfig, ColumnKind
from rayline.config.history import JoinConfig, OnlineConfig, WindowConfig
from rayline.config.section import Section, Task


class FeaturesConfig(Section, frozen=True, kw_only=True):
    """Which columns go in, and the target. No ``columns`` means: infer them, less ``drop``."""

    target: str
    task: Literal["auto"] | Task = "auto"
    columns: dict[str, ColumnKind | ColumnConfig] = {}
    drop: tuple[str, ...] = ()
    join: tuple[JoinConfig, ...] = ()
    windows: dict[str, WindowConfig] = {}
    online: OnlineConfig = OnlineConfig()

    def __post_init__(self) -> None:
        names = [each.name for each in self.join]
        twins = [name for name in names if names.count(name) > 1]
        if twins:
            raise ValueError(f"two joins are called '{twins[0]}'. Give one of them another name")
