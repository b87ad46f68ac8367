"""mosec: one worker that draws with torch; batches of at most 64, gathered for at most 2 ms."""

from __future__ import annotations

import msgpack
import numpy as np
import torch
from mosec import Server, Worker


class Sampler(Worker):
    """Draws one id from each request's row."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)

    def deserialize(self, data: bytes) -> tuple[np.ndarray, float]:
        """Read msgpack: {"logits": f32 bytes, "temperature": number}."""
        request = msgpack.unpackb(data)
        return np.frombuffer(request["logits"], "<f4"), request["temperature"]

    def serialize(self, data: int) -> bytes:
        """Write msgpack: the id as four bytes, so that all replies are as long as each other."""
        return msgpack.packb(data.to_bytes(4, "little"))

    def forward(self, data: list[tuple[np.ndarray, float]]) -> list[int]:
        """Draw, a batch at a time."""
        logits = torch.from_numpy(np.stack([row for row, _ in data]))
        temperature = torch.tensor([t for _, t in data]).unsqueeze(1)
        return torch.multinomial(torch.softmax(logits / temperature, -1), 1).squeeze(1).tolist()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Sampler, num=1, max_batch_size=64, max_wait_time=2)
    server.run()
