"""Samplers for inference engines: the engine computes rows of logits, samplerd draws from them.

`transformers` is for Hugging Face `generate`, and `rows` for any other loop. Each module is imported by its own name;
none imports the engine that it is for before it is used.
"""
