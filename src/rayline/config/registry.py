"""``registry``: where runs and versions are kept."""

from __future__ import annotations

from rayline.config.section import Section


class RegistryConfig(Section, frozen=True, kw_only=True):
    """MLflow. Without a ``tracking_uri`` it is SQLite under ``storage``."""

    tracking_uri: str | None = None
    experiment: str | None = None
