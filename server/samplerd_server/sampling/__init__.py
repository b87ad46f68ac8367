"""Pure sampling mathematics: rows and parameters in, ids out. No clock, no loop, no I/O."""
