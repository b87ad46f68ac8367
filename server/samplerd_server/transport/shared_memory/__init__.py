"""Rows that clients of the same host left in POSIX shared memory."""
