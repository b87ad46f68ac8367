"""Times of a GPU: `make bench-gpu`. None has been taken yet."""
