"""Uploaded distributions: named rows that stay on the server, within bounds of memory and of idle time."""
