"""Copied into Triton's model folder: its Python stub knows neither virtual environments nor PYTHONPATH."""

import sys
from pathlib import Path

sys.path[:0] = Path(__file__).with_name("paths").read_text().splitlines()

from triton_model import TritonPythonModel  # noqa: E402, F401  # what the backend looks for, found by those paths
