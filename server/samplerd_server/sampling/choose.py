"""Which implementation draws on a device: the one place that knows them all, and imports the chosen one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
    from samplerd_server.sampling.sampler import Sampler

__all__ = ["choose_cdf_index_builder", "choose_sampler"]


def choose_sampler(device: str, kernel: Literal["auto", "numba", "torch"] = "auto", threads: int = 1) -> Sampler:
    """Make the sampler for a device.

    Args:
        device: as torch names it: ``cpu``, ``cuda``, ``cuda:1``; or ``interpret``, the kernels for a GPU in an
            interpreter, for which TRITON_INTERPRET must be set.
        kernel: ``auto`` takes the compiled kernels on the CPU where numba is installed, and torch elsewhere; ``numba``
            and ``torch`` insist.
        threads: threads that draw.

    Raises:
        ValueError: the kernel cannot run on the device.
        ImportError: ``numba`` is insisted on and not installed.

    """
    if device == "interpret":
        if kernel != "auto":
            message = f"device interpret has kernels of its own, not those of {kernel}"
            raise ValueError(message)
        from samplerd_server.sampling.cuda.sampler import InterpretedSampler  # noqa: PLC0415  # only where it is chosen

        return InterpretedSampler(threads)
    is_cpu = device == "cpu"
    if kernel == "numba" and not is_cpu:
        message = f"the numba kernels run on the CPU, not on {device}"
        raise ValueError(message)
    if kernel == "numba" or (kernel == "auto" and is_cpu and find_spec("numba") is not None):
        from samplerd_server.sampling.kernels import NumbaSampler  # noqa: PLC0415  # only where it is chosen

        return NumbaSampler(threads=threads)
    from samplerd_server.sampling.portable.sampler import TorchSampler  # noqa: PLC0415  # torch takes a second to import

    return TorchSampler(device, threads)


def choose_cdf_index_builder(sampler: Sampler) -> CdfIndexBuilder | None:
    """Make the builder of CDF indexes whose draws are this sampler's, to the bit; None if it has none."""
    if sampler.name != "numba":
        return None
    from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder  # noqa: PLC0415  # only where numba is

    return CdfIndexBuilder()
