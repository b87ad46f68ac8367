"""Samplers for inference engines: the engine computes rows of logits, samplerd draws from them.

`transformers` is for Hugging Face `generate`, `llama_cpp` for the low-level API of llama-cpp-python, and `rows` for any
other loop. Each module is imported by its own name, since it imports what its engine needs.
"""
