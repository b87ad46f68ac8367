"""The transport ``envoy``: the same handlers, run inside Envoy."""
