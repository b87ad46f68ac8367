"""The life of a process: its start and end, its log, its memory, and the workers it supervises."""
