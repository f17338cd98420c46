"""The steps of a rollout, made from a configuration and checked before anything moves. Pure."""
