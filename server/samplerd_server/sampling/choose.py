"""Which implementation draws on a device: the one place that knows them all, and imports the chosen one."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias

from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda.open_card import is_installed, open_card

if TYPE_CHECKING:
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
    from samplerd_server.sampling.cuda.card import Card
    from samplerd_server.sampling.sampler import Sampler

__all__ = ["choose_cdf_index_builder", "choose_sampler"]


Kernel: TypeAlias = Literal["auto", "numba", "torch", "cuda"]
_INTERPRETED_BYTES = 64 << 20
"""Memory of the double of a card, of either kind."""
_SHARE = 8
"""The part of a card's memory that is taken where nothing is said: an eighth."""
_LOCKED_BYTES = 512 << 20
"""Most page-locked memory: some batches on their way; what a system can lock is not without end."""
_LOG = logging.getLogger("samplerd.engine")


def choose_sampler(device: str, kernel: Kernel = "auto", threads: int = 1, device_bytes: int = 0) -> Sampler:
    """Make the sampler for a device.

    Args:
        device: as torch names it: ``cpu``, ``cuda``, ``cuda:1``; or ``interpret``, the kernels for a GPU in an
            interpreter, for which TRITON_INTERPRET must be set.
        kernel: ``auto`` takes the compiled kernels on the CPU where numba is installed, on a GPU our own kernels where
            they are compiled for it, and torch elsewhere; ``numba``, ``torch`` and ``cuda`` insist.
        threads: threads that draw.
        device_bytes: memory of the GPU for rows and scratch; 0 = an eighth of what it has.

    Raises:
        ValueError: the kernel cannot run on the device.
        DeviceError: ``cuda`` is insisted on, and our kernels do not run on the GPU.
        ImportError: ``numba`` is insisted on and not installed.

    """
    if device == "interpret":
        if kernel != "auto":
            message = f"device interpret has kernels of its own, not those of {kernel}"
            raise ValueError(message)
        from samplerd_server.sampling.cuda.late_card import LateCard  # noqa: PLC0415  # only where it is chosen

        return _make_card_sampler(LateCard(), threads, device_bytes or _INTERPRETED_BYTES)
    is_cpu = device == "cpu"
    if kernel == "numba" and not is_cpu:
        message = f"the numba kernels run on the CPU, not on {device}"
        raise ValueError(message)
    if kernel == "cuda" and is_cpu:
        message = "the cuda kernels run on a GPU, not on the CPU"
        raise ValueError(message)
    if kernel == "numba" or (kernel == "auto" and is_cpu and find_spec("numba") is not None):
        from samplerd_server.sampling.kernels import NumbaSampler  # noqa: PLC0415  # only where it is chosen

        return NumbaSampler(threads=threads)
    if kernel == "cuda" or (kernel == "auto" and not is_cpu):
        own = _make_cuda_sampler(device, threads, device_bytes, is_asked_for=kernel == "cuda")
        if own is not None:
            return own
    from samplerd_server.sampling.portable.sampler import TorchSampler  # noqa: PLC0415  # torch takes a second to import

    return TorchSampler(device, threads)


def _make_cuda_sampler(device: str, threads: int, device_bytes: int, *, is_asked_for: bool) -> Sampler | None:
    """Make the sampler of a GPU on which our kernels run; None = they do not, and nobody insists."""
    if not (is_asked_for or is_installed()):
        return None
    try:
        card = open_card(int(device.partition(":")[2] or 0))
    except DeviceError as error:
        import torch  # noqa: PLC0415  # which draws instead, if it can

        if is_asked_for or torch.version.cuda is None:
            raise
        _LOG.warning("torch draws, whose bits are not those of the CPU: %s", error)
        return None
    return _make_card_sampler(card, threads, device_bytes or card.total_bytes // _SHARE)


def _make_card_sampler(card: Card, threads: int, device_bytes: int) -> Sampler:
    from samplerd_server.sampling.cuda.sampler import CudaSampler  # noqa: PLC0415  # it imports triton

    locked_bytes = min(device_bytes, _LOCKED_BYTES)
    return CudaSampler(card, device_bytes=device_bytes, locked_bytes=locked_bytes, threads=threads)


def choose_cdf_index_builder(sampler: Sampler) -> CdfIndexBuilder | None:
    """Make the builder of CDF indexes whose draws are this sampler's, to the bit; None if it has none."""
    if not sampler.name.endswith("numba"):
        return None
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder  # noqa: PLC0415  # only where numba is

    return CdfIndexBuilder()
