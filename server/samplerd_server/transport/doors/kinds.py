"""The kinds of messages between a door and the engine: the first entry of each."""

from __future__ import annotations

__all__ = [
    "ANSWER",
    "CANCEL",
    "COUNT",
    "DEFINE",
    "FAILED",
    "FREED",
    "REQUEST",
    "RESULT",
    "UPLOAD",
    "WELCOME",
]

REQUEST = 0
"""Door: (number, arrival, deadline, connection, identity, is_admitted, is_traced, request)."""
CANCEL = 1
"""Door: (number); nobody waits for it any more."""
DEFINE = 2
"""Door: (number, parameters, forgets); see `known`."""
UPLOAD = 3
"""Door: (number, arrival, deadline, connection, identity, offset, size) of a CreateDistributionRequest in the arena."""
COUNT = 4
"""Door: (number); what was drawn is asked for."""
WELCOME = 10
"""Engine: (facts); the first message to a door."""
RESULT = 11
"""Engine: (number, result, span of its batch or None)."""
FAILED = 12
"""Engine: (number, error)."""
FREED = 13
"""Engine: (offsets) of blocks that it does not read any more."""
ANSWER = 14
"""Engine: (number, what was asked for): the bytes of the reply to an upload, or the fields of `core.drawn.Drawn`."""
