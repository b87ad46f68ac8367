"""How the cores of the machine are shared among workers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["thread_variables", "threads_beside_doors", "threads_per_worker"]

_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Thread pools of the libraries below torch and numpy: each would take all cores, in every worker."""


def threads_per_worker(configured: int, workers: int, cores: int) -> int:
    """Give the threads that draw in each worker: as configured, or its share of the cores less one for its event loop.

    Args:
        configured: ``--threads``; 0 = choose.
        workers: how many there are, at least 1.
        cores: how many this process may use, at least 1.

    Returns:
        At least 1. Nothing is pinned to a core: the system moves a busy worker to an idle one.

    """
    return configured or max(1, cores // workers - 1)


def threads_beside_doors(configured: int, doors: int, cores: int) -> int:
    """Give the threads that draw in the engine: as configured, or the cores that it and the doors leave idle.

    Args:
        configured: ``--threads``; 0 = choose.
        doors: how many there are, at least 1.
        cores: how many this process may use, at least 1.

    Returns:
        At least 1.

    """
    return configured or max(1, cores - doors - 1)


def thread_variables(threads: int, variables: Mapping[str, str]) -> dict[str, str]:
    """Give the environment variables that limit libraries to this many threads, without those that are set already."""
    return {name: str(threads) for name in _POOLS if name not in variables}
