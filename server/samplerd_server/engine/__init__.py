"""The engine: the device, the sampler on it, and the one thread that uses it."""
