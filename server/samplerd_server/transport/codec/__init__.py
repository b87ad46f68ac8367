"""From bytes to checked entities, and from results to bytes."""
