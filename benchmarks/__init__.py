"""How fast samplerd is, measured against references in the same run. Run as `python -m benchmarks`; see README.md."""
