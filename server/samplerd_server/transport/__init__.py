"""The transport: the only package that imports grpc and the generated stubs. It does not import torch."""
