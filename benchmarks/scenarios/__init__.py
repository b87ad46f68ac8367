"""One module a scenario; `benchmarks.scenario` says what it must define."""
