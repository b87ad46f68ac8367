"""Where the microseconds of a request go, between the transport's bytes in and its bytes out.

Every stage is timed alone, in this process, with warm caches: the best of several runs. The whole handler is timed
too, from bytes to bytes on an event loop; what the stages do not explain is the loop's own (coroutines, futures,
turns). On a loaded server caches are colder and every figure is larger; the shares are what to look at.
"""

from __future__ import annotations

import asyncio
import math
import timeit
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop

from benchmarks.load import sample_request
from benchmarks.plots import plt
from benchmarks.scenario import Options, Result, Scenario, Table
from samplerd_server.app.app import RPCS, App
from samplerd_server.batching.admission import Admission
from samplerd_server.batching.cost_model import CostModel
from samplerd_server.batching.policy import DeviceState, decide
from samplerd_server.batching.queue import TicketQueue
from samplerd_server.batching.slicer import Slicer
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.batching.ticket_batch import TicketBatch, form_batches
from samplerd_server.config import MetricsConfig, ServerConfig
from samplerd_server.core.errors import Code
from samplerd_server.core.result import Timing
from samplerd_server.engine.engine import Engine
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.codec.encode import encode
from samplerd_server.transport.rpc.binding import bind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from matplotlib.figure import Figure

    from benchmarks.report import Progress
    from samplerd_server.transport.rpc.service import SamplerService

__all__ = ["SCENARIO"]

NOTE = "microseconds a request, in process, best of several; requests in a batch share what the batch costs"
VOCAB_SIZES = (1_024, 32_768, 131_072)
BATCHES = (1, 16)
STAGES = ("decode", "admit", "queue", "pack", "draw", "unpack", "encode", "count", "loop")
_TASTE_S = 0.02


def run(progress: Progress, options: Options) -> Result:
    """Time every stage at every size."""
    repeats = 3 if options.quick else 15
    return {"note": NOTE, "sizes": uvloop.run(_measure(progress, repeats))}


async def _measure(progress: Progress, repeats: int) -> list[dict[str, Any]]:
    loop = asyncio.get_running_loop()
    config = ServerConfig(metrics=MetricsConfig(listen=""))
    engine = Engine(config.engine)
    engine.warm_up()
    app = App(config, engine, loop)
    engine.start(loop)
    sample = _handler(app)
    sizes = []
    for vocab_size in VOCAB_SIZES:
        data = sample_request(vocab_size).SerializeToString()
        for batch in BATCHES:
            stages = _stages(app.handlers.service, engine, data, batch, repeats)
            whole = await _whole(sample, data, batch, repeats)
            stages["loop"] = max(0.0, whole - sum(stages.values()))
            sizes.append({"vocab_size": vocab_size, "batch": batch, "stages_us": stages, "whole_us": whole})
            progress(f"  V = {vocab_size:,}, batch of {batch}: {whole:.1f} us a request")
    await loop.run_in_executor(None, engine.stop, 1.0)
    return sizes


def _best_us(work: Callable[[], object], repeats: int) -> float:
    """Microseconds of one call: the best of `repeats` runs of about 20 ms."""
    timer = timeit.Timer(work)
    number = max(1, int(_TASTE_S / max(1e-7, timer.timeit(3) / 3)))
    return 1e6 * min(timer.repeat(repeats, number)) / number


def _stages(service: SamplerService, engine: Engine, data: bytes, batch: int, repeats: int) -> dict[str, float]:
    loop, config = asyncio.get_running_loop(), ServerConfig()
    decoder = service.decoder
    request = decoder.decode_bytes(data)
    tickets = [Ticket(request, 0.0, NO_DEADLINE, "a", loop.create_future()) for _ in range(batch)]
    queue, cost_model, metrics, device = TicketQueue(), CostModel(), Metrics(rpc.labels for rpc in RPCS), DeviceState()
    slicer = Slicer(config.batching, cost_model=cost_model, metrics=metrics)
    admission = Admission(config.admission, queue=queue, slicer=slicer, device=device, cost_model=cost_model)
    ticket_batch = TicketBatch(tickets)
    packed = ticket_batch.pack()
    results = engine.sampler.sample(packed)  # type: ignore[arg-type]  # tickets with rows pack to a RowBatch
    timings = [Timing(1e-4, 1e-5, batch)] * batch
    (answer, *_) = ticket_batch.unpack(results, timings)

    def admit() -> None:
        admission.check(Ticket(request, 0.0, NO_DEADLINE, "a", tickets[0].reply), 0.0)

    def queue_batch() -> None:
        for ticket in tickets:
            queue.add(ticket)
        decide(0.0, queue, device, config.batching)
        list(form_batches(queue.take(config.batching.max_rows, config.batching.max_bytes, slicer.most_work)))
        cost_model.learn(request.work, 1e-5)

    def count() -> None:
        metrics.rpc_started("Sample")
        metrics.rpc_handled("Sample", Code.OK, 1e-3)
        metrics.queue_wait_seconds.observe(1e-4)

    def count_batch() -> None:
        metrics.batch_rows.observe(batch)
        metrics.compute_seconds.observe(1e-5)

    return {
        "decode": _best_us(lambda: decoder.decode_bytes(data), repeats),
        "admit": _best_us(admit, repeats),
        "queue": _best_us(queue_batch, repeats) / batch,
        "pack": _best_us(ticket_batch.pack, repeats) / batch,
        "draw": _best_us(lambda: engine.run(packed), repeats) / batch,
        "unpack": _best_us(lambda: ticket_batch.unpack(results, timings), repeats) / batch,
        "encode": _best_us(lambda: encode(request, answer), repeats),  # type: ignore[arg-type]  # as above
        "count": _best_us(count, repeats) + _best_us(count_batch, repeats) / batch,
    }


class _NoCall:
    """A servicer context of nobody."""

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class _Details(NamedTuple):
    """How a handler is asked for."""

    method: str
    invocation_metadata: tuple[()] = ()


def _handler(app: App) -> Callable[[bytes, object], Awaitable[bytes]]:
    """Give the handler of Sample as a transport calls it."""
    (service,) = bind([app.handlers.service], app.observer).values()
    handler = service.service(_Details("/samplerd.v1.SamplerService/Sample"))  # type: ignore[arg-type]  # it reads these two
    assert handler is not None, "nobody answers Sample. This is a bug."
    sample: Callable[[bytes, object], Awaitable[bytes]] | None = handler.unary_unary  # type: ignore[assignment]  # and it is async
    assert sample is not None, "Sample is a stream. This is a bug."
    return sample


async def _whole(sample: Callable[[bytes, object], Awaitable[bytes]], data: bytes, batch: int, repeats: int) -> float:
    """Microseconds a request when `batch` handlers run at once, on the event loop's clock."""
    loop, context, best = asyncio.get_running_loop(), _NoCall(), math.inf

    async def together() -> None:
        await asyncio.gather(*(sample(data, context) for _ in range(batch)))

    for _ in range(repeats):
        began, calls = loop.time(), 0
        while loop.time() - began < _TASTE_S:
            # One handler needs no gathering, which has a cost of its own.
            await (sample(data, context) if batch == 1 else together())
            calls += batch
        best = min(best, (loop.time() - began) / calls)
    return 1e6 * best


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["V", "batch", *STAGES, "whole us"]
    return header, [
        [
            f"{size['vocab_size']:,}",
            f"{size['batch']}",
            *(f"{size['stages_us'][stage]:.1f}" for stage in STAGES),
            f"{size['whole_us']:.1f}",
        ]
        for size in result["sizes"]
    ]


def figure(result: Result) -> Figure:
    """Draw a stacked bar for each size and batch."""
    drawn, ax = plt.subplots(figsize=(10, 4.5), layout="constrained")
    sizes: list[Mapping[str, Any]] = result["sizes"][::-1]
    names = [f"V = {size['vocab_size']:,}\nbatch of {size['batch']}" for size in sizes]
    left = [0.0] * len(sizes)
    colours = plt.get_cmap("tab20")
    for number, stage in enumerate(STAGES):
        width = [size["stages_us"][stage] for size in sizes]
        ax.barh(names, width, left=left, label=stage, color=colours(number))
        left = [at + own for at, own in zip(left, width, strict=True)]
    for name, end in zip(names, left, strict=True):
        ax.annotate(f"{end:.0f} us", (end, name), xytext=(4, 0), textcoords="offset points", va="center")
    ax.grid(visible=True, axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("microseconds a request, in process")
    ax.set_title("From the bytes of a request to the bytes of its reply")
    ax.legend(ncols=len(STAGES), loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=9)
    return drawn


SCENARIO = Scenario(run=run, table=table, figure=figure)
