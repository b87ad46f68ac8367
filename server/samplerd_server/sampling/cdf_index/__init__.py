"""Prepared tables: rows that stay, measured once, so that a draw reads one line of memory instead of a row."""
