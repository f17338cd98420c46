"""The online store: the latest row of each key, for a live service to look up."""
