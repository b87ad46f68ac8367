"""The sampler of the CPU, compiled: see sampler.py."""

from samplerd_server.sampling.kernels.sampler import NumbaSampler

__all__ = ["NumbaSampler"]
