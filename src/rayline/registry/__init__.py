"""What crosses from training to serving: bundles, and the registry that keeps their versions."""
