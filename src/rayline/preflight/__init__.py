"""Whether what a configuration asks for can ever find its place, told before anything starts. Pure."""

from __future__ import annotations

from rayline.preflight.needs import MANY, Held, Need, needs_of, replicas_of
from rayline.preflight.verdicts import Verdict, judge, judged, refusal

__all__ = ["MANY", "Held", "Need", "Verdict", "judge", "judged", "needs_of", "refusal", "replicas_of"]
