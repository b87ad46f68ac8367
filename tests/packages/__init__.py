"""What would be published of each client is built, and used from an empty project: `make check-packages`."""
