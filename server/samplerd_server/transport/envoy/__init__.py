"""The transport envoy: the same handlers inside an embedded Envoy."""
