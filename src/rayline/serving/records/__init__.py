"""What is kept of an answered request: counts, captures, late truth, the mirrored version's answer, and drift."""
