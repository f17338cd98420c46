"""What holds for every test: neither time nor luck decides.

The examples of a property are the same in every run, so that a change is never failed by chance for what it did not do;
``make explore`` looks for counterexamples that nobody has seen, with new examples each time, and more of them.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("rayline", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("rayline"), derandomize=False, max_examples=500)
settings.load_profile("rayline")
