"""Tuning: the search space and the Study, the door to Ray Tune."""
