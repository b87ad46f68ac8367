"""The engine: a device, a sampler on it, and the thread that runs it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from samplerd_server.core.errors import DeviceError
from samplerd_server.engine.compile_child import compiled_ahead
from samplerd_server.engine.device import choose_device, choose_threads, torch_version
from samplerd_server.engine.device_thread import DeviceThread, Outcome
from samplerd_server.sampling.choose import choose_cdf_index_builder, choose_sampler
from samplerd_server.sampling.kernels import linked
from samplerd_server.sampling.sampler import EarlySampler

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from pathlib import Path

    from samplerd_server.config import EngineConfig
    from samplerd_server.engine.device_thread import DeviceBatch

__all__ = ["Engine"]


class Engine:
    """Draws batches, one after the other.

    Raises:
        DeviceError: the configured device does not exist, or the configured kernel does not run on it.

    """

    def __init__(self, config: EngineConfig) -> None:
        self.device = choose_device(config.device)
        self.threads = choose_threads(config.threads)
        if self.device.name != "interpret":  # the interpreter compiles with numba
            linked.use()
        try:
            self.sampler = choose_sampler(
                self.device.name,
                config.kernel,  # type: ignore[arg-type]  # checked
                self.threads,
                config.device_memory_bytes,
            )
        except ValueError as error:
            raise DeviceError(str(error)) from None
        self._has_numba = self.sampler.name.endswith("numba") and self.device.name != "interpret"
        self.cdf_index_builder = choose_cdf_index_builder(self.sampler)
        """Makes the CDF index of uploaded rows; None = they are drawn from like other rows."""
        early = self.sampler if isinstance(self.sampler, EarlySampler) else None
        self.note_rows = None if early is None else early.note_rows
        """Is told of the rows of distributions; None = none of them are kept on a card."""
        self.regions = None if early is None else early.regions
        """Memory of other processes on the card; None = there is no card whose memory they can share."""
        self.device_numbers = {} if early is None else early.numbers
        """What can be read of a card, each by the attribute of its metric."""
        self._thread = DeviceThread(self.sampler)
        self.event_loop_draw_limit_s = config.event_loop_draw_limit_s if self.device.name == "cpu" else 0.0
        """A batch predicted to take fewer seconds than this should be run by the caller, with `run`; 0 = none
        should."""
        self.torch_version = torch_version()

    def warm_up(self, spare: Path | None = None) -> float:
        """Compile and allocate everything that the first batch needs; returns the seconds it took.

        Args:
            spare: folder for compiled kernels where no other can be written; None = a temporary one.

        """
        began = time.monotonic()
        compiles = self._has_numba and not linked.is_used()
        with compiled_ahead(spare) if compiles else nullcontext():
            self.sampler.warm_up()
            if self.cdf_index_builder is not None:
                self.cdf_index_builder.warm_up()
        return time.monotonic() - began

    def link_kernels(self) -> None:
        """Let the next start do without the compiler, where this one had to import it."""
        if self._has_numba and not linked.is_used():
            from samplerd_server.sampling.kernels.linking import save_linked  # noqa: PLC0415  # it imports numba

            save_linked()

    def start(self, loop: AbstractEventLoop) -> None:
        """Start the device thread; outcomes are delivered on `loop`."""
        self._thread.start(loop)

    def submit(self, batch: DeviceBatch, deliver: Callable[[Outcome], None]) -> None:
        """Run a batch on the device thread, after those submitted before, then call `deliver` on the event loop."""
        self._thread.submit(batch, deliver)

    def run(self, batch: DeviceBatch) -> Outcome:
        """Run a batch on the calling thread. Only while the device thread is idle."""
        return self._thread.run(batch)

    @property
    def device_cpu_s(self) -> float:
        """Processor time of the device thread, in seconds, without the threads that help it."""
        return self._thread.cpu_s

    @property
    def batch_age_s(self) -> float:
        """Seconds since the batch began that runs now; 0 = none runs."""
        return self._thread.batch_age_s

    def stop(self, wait_s: float) -> bool:
        """Finish the submitted batches within `wait_s` seconds and end the thread; returns whether it has ended."""
        return self._thread.stop(wait_s)
