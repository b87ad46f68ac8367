"""Everything that is counted, and how Prometheus gets it."""
