"""The RPCs: their descriptors and handlers, and the counting, errors and streams that all of them share."""
