"""Text generation: a small real language model runs here, samplerd draws its next characters."""
