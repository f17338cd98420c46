"""Where the rollouts of a service are kept: a SQLite file in a folder, objects in an object store."""
