"""samplerd: a gRPC server that turns logits into samples."""
