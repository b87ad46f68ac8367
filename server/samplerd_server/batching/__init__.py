"""Micro-batching: admission to a bounded queue, a pure policy, and the batcher that hands batches to the device."""
