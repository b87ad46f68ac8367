"""Several whole servers on the same addresses, and the supervisor that starts, counts, restarts and drains them.

::

    samplerd (supervisor) ──┬── starts ──▶ samplerd (worker 0) ──▶ [Envoy]
      holds the ports       ├── starts ──▶ samplerd (worker 1) ──▶ [Envoy]
      serves /metrics       └── ...
"""
