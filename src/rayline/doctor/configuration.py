"""Is the configuration one that a run could start from?"""

from __future__ import annotations

from collections.abc import Sequence

from rayline.doctor.seam import Finding, Subject


class ConfigCheck:
    """Tells whether the file was read, and what is wrong with it."""

    name = "config"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        if subject.config_error:
            said, _, rest = subject.config_error.partition(". ")
            return [Finding("failed", said.rstrip("."), rest or f"Change '{subject.config_file}'.")]
        if subject.config is None:
            return [Finding("skipped", "no configuration was named, and there is no rayline.yaml here")]
        return [Finding("ok", f"'{subject.config_file}' describes '{subject.config.name}'")]
