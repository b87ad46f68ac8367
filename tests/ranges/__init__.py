"""Both ends of the ranges of dependencies that the package declares."""
