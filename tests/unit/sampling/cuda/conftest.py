"""Triton interprets in this process, which is decided when it is first imported; other processes compile."""

import os

os.environ["TRITON_INTERPRET"] = "1"
