"""Clients that others publish, run unchanged against live servers over both transports."""
