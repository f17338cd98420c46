"""The main job on real data, as a show: `make demo`."""
