"""The reference: what every draw means, in float64, written to be read."""
