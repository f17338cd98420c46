"""What holds for every test: time decides nothing, so no example of a property has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("rayline", deadline=None)
settings.load_profile("rayline")
