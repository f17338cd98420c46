"""One version, live: loaded and tried, here or in a process of its own, and its passes shared among requests."""
