"""A server of the standard library that waits while the process has no file descriptor left for a connection.

By itself it tries again at once and without end, since the connection is still there to be accepted, and takes a whole
core from the others for as long as the descriptors are used up.
"""

from __future__ import annotations

import errno
import socketserver
import time
from typing import Any

__all__ = ["PatientServer"]

_WAIT_S = 0.1
_USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class PatientServer(socketserver.TCPServer):
    """Accepts connections when it can. On the thread that serves."""

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection.

        Raises:
            OSError: there is none any more, or no descriptor for it; it stays where it is, and is accepted later.

        """
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _USED_UP:
                time.sleep(_WAIT_S)
            raise
