"""Uploaded distributions: rows that stay, under a name, within a bound on memory and on time."""
