"""`python -m examples.demo`: all of samplerd in half a minute, on real input.

Starts a server of its own on free ports, writes 64 texts at once at four temperatures, replays some of the draws alone,
draws a million negative samples, shows what Prometheus saw, and stops the server. Exits 0 if all of it went well.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.scrape import Reading, read_metrics
from benchmarks.servers import SamplerServer, ServerError
from examples import negative_sampling
from examples.charlm.generate import Draw, Text, draw_from, generate
from examples.charlm.model import CharModel
from examples.terminal import Live, bold, clip, columns, dim, heat, status, table
from samplerd_client import SamplerClient, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

TEMPERATURES = (0.0, 0.5, 1.0, 1.5)
OPENINGS = (
    *("How do you", "My", "Why is", "The", "What is the", "Today I", "Just", "I"),
    *("This is", "Who", "When I", "Can", "First", "Best", "Found", "After"),
)
"""16 openings at 4 temperatures: 64 texts."""
SHOWN = ("How do you", "My", "Today I", "Found")
"""Those whose growth is shown."""
SEED = 2025
DRAWS = 1_000_000
REPLAY_EVERY = 40


@dataclass(frozen=True, slots=True)
class Drawn:
    """One draw, kept to be repeated."""

    row: NDArray[np.float32]
    temperature: float
    seed: int
    draw_offset: int
    sample: int


@dataclass(slots=True)
class Recorder:
    """Draws as `draw` does, and keeps one in so many."""

    draw: Draw
    kept: list[Drawn] = field(default_factory=list)
    calls: int = 0

    async def __call__(self, row: NDArray[np.float32], *, temperature: float, seed: int, draw_offset: int) -> int:
        """Draw one id."""
        self.calls += 1
        keep = self.calls % REPLAY_EVERY == 0
        sample = await self.draw(row, temperature=temperature, seed=seed, draw_offset=draw_offset)
        if keep:
            self.kept.append(Drawn(row.copy(), temperature, seed, draw_offset, sample))
        return sample


def headline(text: str, about: str = "") -> None:
    """Begin a part."""
    status("")
    print(f"\n{bold(text)}  {dim(about)}" if about else f"\n{bold(text)}")


def growing_lines(texts: Sequence[Text]) -> list[str]:
    """Show how far the texts are, by temperature, each on a line of its own."""
    room = columns() - 11
    lines = []
    for temperature in TEMPERATURES:
        shown = [text for text in texts if text.temperature == temperature and text.opening in SHOWN]
        for number, text in enumerate(shown):
            label = f"T = {temperature:g}" if number == 0 else ""
            lines.append(f"  {label:<9}" + heat(temperature, clip(text.written, room)))
    return lines


async def write_texts(client: SamplerClient) -> list[Drawn]:
    """Write 64 texts at once, showing some of them grow; return some of the draws."""
    model = CharModel.load()
    texts = [
        Text(opening=opening, temperature=temperature, seed=SEED + number)
        for number, (temperature, opening) in enumerate((t, o) for t in TEMPERATURES for o in OPENINGS)
    ]
    headline(f"{len(texts)} texts at once", "a character model runs here; every step sends one row a text")
    live = Live()
    async with client.stream() as stream:
        recorder = Recorder(draw_from(stream))
        took = await generate(model, texts, recorder, on_step=lambda now: live.draw(growing_lines(now)))
    live.finish(growing_lines(texts))
    print(
        f"  {took.rows:,} rows in {took.steps} steps and {took.forward_s + took.draw_s:.1f} s: "
        f"{took.forward_s:.1f} s in the model, {took.draw_s:.1f} s waiting for samplerd, "
        f"{bold(f'{took.rows / took.draw_s:,.0f} rows/s')} while waiting"
    )
    return recorder.kept


async def replay(client: SamplerClient, recorded: Sequence[Drawn]) -> None:
    """Draw again what was drawn in a batch, each row alone.

    Raises:
        RuntimeError: a draw came out differently the second time.

    """
    same = 0
    for one in recorded:
        alone = await client.sample(one.row, temperature=one.temperature, seed=one.seed, draw_offset=one.draw_offset)
        same += int(alone.samples[0, 0]) == one.sample
    print(f"  {len(recorded)} of these draws asked for again, each alone in its batch: {same} came out the same")
    if same != len(recorded):
        raise RuntimeError(f"{len(recorded) - same} draws depend on their batch")


async def draw_words(client: SamplerClient) -> None:
    """Draw a million words as word2vec's negative sampling does.

    Raises:
        RuntimeError: the draws do not follow the law.

    """
    status("reading word frequencies")
    vocabulary = negative_sampling.WordFrequencies.load()
    drawn = await negative_sampling.run(client, vocabulary, draws=DRAWS, seed=SEED)
    headline(
        f"{len(drawn.samples):,} negative samples from {len(vocabulary.words):,} English words",
        f"weights at T = 4/3, word2vec's power of 3/4; {drawn.elapsed_s:.2f} s",
    )
    print(negative_sampling.show(drawn))
    if abs(drawn.deviation()) > 6:
        raise RuntimeError(f"the words drawn are {drawn.deviation():+.1f} standard deviations off the law")


def show_metrics(url: str, writing: Reading, seen: Reading) -> None:
    """Show what the server counted: while the texts were written, and in all."""
    headline("What Prometheus saw", url)
    computing_s = writing.total("samplerd_compute_seconds_sum")
    counters = [
        ("requests answered", "samplerd_requests_total", {"code": "OK"}),
        ("rows, greedy", "samplerd_rows_total", {"path": "greedy"}),
        ("rows, random", "samplerd_rows_total", {"path": "random"}),
        ("rows that failed", "samplerd_row_errors_total", {}),
        ("samples", "samplerd_samples_total", {}),
        ("batches", "samplerd_batches_total", {}),
    ]
    means = [
        ("mean batch, rows", f"{writing.mean('samplerd_batch_rows'):.1f}", "samplerd_batch_rows"),
        ("mean wait in the queue", _us(writing.mean("samplerd_queue_wait_seconds")), "samplerd_queue_wait_seconds"),
        ("computing, per row", _us(computing_s / writing.total("samplerd_rows_total")), "samplerd_compute_seconds"),
        ("mean request", _us(writing.mean("samplerd_request_seconds")), "samplerd_request_seconds"),
    ]
    rows = [[label, f"{seen.total(name, **labels):,.0f}", name] for label, name, labels in counters]
    rows += [[label, text, f"{name}, while the texts were written"] for label, text, name in means]
    print(table(rows, notes=True))


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f} us"


async def tour(server: SamplerServer) -> None:
    """Use the running server."""
    before = read_metrics(server.metrics_url)
    async with SamplerClient(f"127.0.0.1:{server.port}") as client:
        info = await client.server_info()
        status("")
        print(
            f"{bold(f'samplerd {info.version}')} on {info.device_name or info.device} "
            + dim(f"(kernel {info.kernel}, {info.rng}, 127.0.0.1:{server.port}, up in {server.start_s:.1f} s)")
        )
        recorded = await write_texts(client)
        writing = read_metrics(server.metrics_url) - before
        await replay(client, recorded)
        await draw_words(client)
    show_metrics(server.metrics_url, writing, read_metrics(server.metrics_url))


def main() -> int:
    """Run the demo."""
    # `kill` shall end the server too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    status("starting samplerd")
    try:
        with SamplerServer() as server:
            asyncio.run(tour(server))
            exit_status = server.stop()
            print(f"\nsamplerd (pid {server.pid}) was asked to stop, drained, and exited with {exit_status}")
    except (SamplerdError, ServerError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"demo: {error.name} is missing: install the extras samplerd[server,examples]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if exit_status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
