"""Rows that clients on the same host leave in POSIX shared memory."""
