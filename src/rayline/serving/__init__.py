"""A live endpoint: the traffic plan, the replicas that choose a version inside, and the door to Ray Serve."""
