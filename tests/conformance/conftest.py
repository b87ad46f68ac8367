"""What the conformance suite is tried on."""
