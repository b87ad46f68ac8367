"""Other samplers, each in its own environment, held against the reference: `make test-peers` runs this folder."""
