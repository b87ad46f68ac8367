"""From bytes to checked requests, and from results to bytes."""
