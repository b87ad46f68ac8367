"""samplerd on Ray: places, watches, scales and replaces whole samplerds. No request passes through Ray.

Ray Serve runs replicas; each starts a samplerd of its own on a free port of its node and tells the directory where. The
command `samplerd-ray up` writes the addresses into a file that Envoy reads, and into one for clients.

Rule 1: nothing here imports samplerd_server, and neither the server nor the client imports this package: a samplerd is
a process that Ray watches. Rule 2: ray is imported by `cluster` alone, so that everything else is tested without it.
"""
