"""Micro-batching: a bounded queue, a pure policy, and the task that forms batches and hands them to the device."""
