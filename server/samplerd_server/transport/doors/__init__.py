"""Requests on their way from a door to the engine, and results on their way back."""
