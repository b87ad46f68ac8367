"""The Open Inference Protocol: the sampler as a model, for the many clients that speak this protocol already.

A request becomes a `SampleRequest` over the very same bytes, and goes through the same checks, queue and batches as any
other; docs/open_inference_protocol.md says what each of its parts means.
"""
