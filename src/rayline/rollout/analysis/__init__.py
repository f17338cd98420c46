"""What was measured of both versions, and whether it holds: measures, bounds, limits, verdicts. Pure."""
