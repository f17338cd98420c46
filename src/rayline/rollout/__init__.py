"""Rollouts: a plan, a state, a pure policy, and the one actor that observes, decides, persists and acts."""
