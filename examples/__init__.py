"""Programs that use samplerd on real data. Run them from the repository's root: `python -m examples.NAME --help`."""
