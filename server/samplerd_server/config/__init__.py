"""The configuration: a frozen tree with the unit, range and default of every setting.

Rule 1: flag > environment > file > default. Rule 2: an unknown key or a bad value is a `ConfigError` that names the
setting, its source and the allowed values. Rule 3: `config/` is the only package that reads the environment.

One name serves everywhere: the flag ``--max-batch-rows`` is ``max_batch_rows`` under ``[batching]`` in the file and
``SAMPLERD_MAX_BATCH_ROWS`` in the environment. Inside, the section is the prefix: ``config.batching.max_rows``.
"""

from samplerd_server.config.process import (
    DOOR,
    ENGINE,
    WORKER,
    EngineConfig,
    LogConfig,
    MetricsConfig,
    WorkerConfig,
    WorkersConfig,
)
from samplerd_server.config.security import SecurityConfig
from samplerd_server.config.server import SECTIONS, ServerConfig
from samplerd_server.config.setting import ConfigError, Setting
from samplerd_server.config.tracing import TracingConfig
from samplerd_server.config.transport import EnvoyConfig, TransportConfig
from samplerd_server.config.workload import AdmissionConfig, BatchingConfig, DistributionsConfig, LimitsConfig

__all__ = [
    "DOOR",
    "ENGINE",
    "SECTIONS",
    "WORKER",
    "AdmissionConfig",
    "BatchingConfig",
    "ConfigError",
    "DistributionsConfig",
    "EngineConfig",
    "EnvoyConfig",
    "LimitsConfig",
    "LogConfig",
    "MetricsConfig",
    "SecurityConfig",
    "ServerConfig",
    "Setting",
    "TracingConfig",
    "TransportConfig",
    "WorkerConfig",
    "WorkersConfig",
]
