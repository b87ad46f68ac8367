"""What every layer speaks of: entities, errors, quantities, addresses of buffers. Imports nothing of samplerd."""
