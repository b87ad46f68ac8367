"""Command lines: errors of one line, and shell completion. What samplerctl and samplerd have in common.

Rule 1: nothing here needs numpy, grpcio or the stubs, so that ``--help`` and a wrong flag are answered at once.
"""
