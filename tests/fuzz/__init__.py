"""Property fuzzing: `python -m tests.fuzz --minutes 5`, as `make fuzz` runs it; a short run of each is a test."""
