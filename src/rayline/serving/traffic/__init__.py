"""Which versions are live and which share each has: the plan, its one keeper, and the replicas that follow it."""
