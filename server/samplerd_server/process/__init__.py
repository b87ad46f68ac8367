"""What concerns a process as a whole: its start and end, its log, its memory, and the workers it supervises."""
