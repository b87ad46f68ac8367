"""The control socket of the application inside Envoy, as its supervisor sees it (`envoy_child.py` answers)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["answers"]


async def answers(control: Path) -> bool:
    """Wait until the application answers on a connection of its own; returns False if it cannot be reached."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(control))
    except OSError:
        return False
    try:
        return bool(await reader.readline())
    finally:
        writer.close()
