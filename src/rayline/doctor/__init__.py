"""`rayline doctor`: looks at what Rayline runs on, and changes nothing of it."""

from __future__ import annotations

from rayline.doctor.examining import Examined, Report, examine
from rayline.doctor.seam import Check, Finding, Subject

__all__ = ["Check", "Examined", "Finding", "Report", "Subject", "examine"]
