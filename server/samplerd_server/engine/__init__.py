"""The device: which one, which sampler on it, and the one thread that uses it."""
