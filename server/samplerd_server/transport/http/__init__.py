"""HTTP/1.1 on an address of its own, beside the transport ``grpcio``."""
