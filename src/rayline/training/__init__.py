"""Training: the ready loop, its checkpoints and the door to Ray Train."""
