"""Envoy's configuration: one listener on all addresses, samplerd embedded, limits, certificates, access log.

Pure: settings in, configuration out. The names are Envoy's own (envoyproxy.io, API v3).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.config import EnvoyConfig, SecurityConfig, ServerConfig, TransportConfig

__all__ = ["APPLICATION", "ARRIVAL_HEADER", "EnvoyError", "envoy_config", "envoy_secrets", "remove_sockets"]

APPLICATION = "samplerd_server.envoy_child:application"
ARRIVAL_HEADER = "x-samplerd-arrival"
"""Header in which Envoy tells when it had the call, in seconds since the epoch."""
_TYPES = "type.googleapis.com/envoy"
_WINDOW_BYTES = 4 << 20
"""Bytes that a client may send ahead on a stream: several rows, so that no row waits for a window update."""
_BUFFER_BYTES = 512 << 10
"""Bytes that one read takes of a connection, and that wait to be written to it. Envoy makes some 6 KiB for each call of
a read before it drops those that were reset; a call and its reset have 32 bytes."""
_KEEPALIVE_TIMEOUT = "20s"
_HANDSHAKE_TIMEOUT = "10s"
_TLS = "extensions.transport_sockets.tls.v3"
_SERVER, _CLIENT_CA = "server.json", "client_ca.json"
_SHRINK_AT, _REFUSE_AT = 0.9, 0.95
"""Fractions of --envoy-max-heap at which Envoy frees memory and at which it refuses calls."""
_PATH_FILTER = {
    "name": "path",
    # Refused here, because pyvoy never answers a path whose escapes are not UTF-8; no gRPC method has an escape.
    "typed_config": {
        "@type": f"{_TYPES}.extensions.filters.http.rbac.v3.RBAC",
        "rules": {
            "policies": {
                "path": {
                    "permissions": [{"not_rule": {"url_path": {"path": {"contains": "%"}}}}],
                    "principals": [{"any": True}],
                }
            }
        },
    },
}


def _request_header(name: str, value: str) -> dict[str, Any]:
    """Set a header of each request, over what a client claims: before the filters, since one costs a call some 4 us."""
    mutation = {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        "name": name,
        "typed_config": {
            "@type": f"{_TYPES}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"append": mutation}],
        },
    }


_ARRIVAL = _request_header(ARRIVAL_HEADER, "%START_TIME(%s.%6f)%")
_CONNECTION = _request_header("x-samplerd-connection", "%CONNECTION_ID%")
"""Callers of one Unix socket have no addresses: this tells them apart, so that each has its share of the queue."""
_RUNTIME = {
    # Envoy closes a connection when more than half of its calls have been reset within a second of their begin, which
    # by default it looks at from 500 calls on. Under load, clients with short deadlines do that legitimately.
    "overload.premature_reset_total_stream_count": 10_000,
    # Of the calls that one read brings, so many begin at once and others in the next turns of Envoy's loop. Those of
    # them that the same read resets never begin: a flood of them takes a tenth of the processor time. Each call that
    # waits for a turn costs some 4 us more, so callers in good faith should seldom send more in one read.
    "http.max_requests_per_io_cycle": 16,
}
_ACCESS_LOG = {
    "time": "%START_TIME%",
    "method": "%REQ(:PATH)%",
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "http_status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "peer_certificate": "%DOWNSTREAM_PEER_SUBJECT%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


class EnvoyError(Exception):
    """Expected: Envoy is not installed, did not start, or ended by itself."""

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """What the server ends with."""


def envoy_config(
    config: ServerConfig, folder: Path, application: str = APPLICATION, *, shares_ports: bool = False
) -> dict[str, Any]:
    """Give Envoy's configuration.

    Args:
        config: the settings.
        folder: temporary folder of this server, for the socket of the admin interface and the files that Envoy reads.
        application: the ASGI application, ``module:name``.
        shares_ports: whether somebody else who listens on the addresses is one of ours.

    Raises:
        EnvoyError: pyvoy is not installed.

    """
    try:
        from pyvoy import PyvoyServer  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise EnvoyError("--transport envoy needs pip install 'samplerd[envoy]'") from error
    server = PyvoyServer(application, worker_threads=1, lifespan=True, loop="uvloop")
    outer: dict[str, Any] = server.get_envoy_config()
    [listener] = outer["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    # Envoy requires a node name to read certificates from files.
    outer["node"] = {"id": "samplerd", "cluster": "samplerd"}
    outer["admin"] = {"address": _admin(config.envoy, folder)}
    outer["layered_runtime"] = {"layers": [{"name": "samplerd", "static_layer": _RUNTIME}]}
    outer["overload_manager"] = _overload_manager(config.envoy)
    _fill_manager(chain["filters"][0]["typed_config"], config)
    if config.security.certificate:
        chain["transport_socket"] = _transport_socket(config.security, folder)
        chain["transport_socket_connect_timeout"] = _HANDSHAKE_TIMEOUT
    # One listener for all addresses: pyvoy runs an event loop per listener, and the queue must have only one.
    first, *others = map(_address, config.transport.listen)
    listener |= {
        "address": first,
        "additional_addresses": [{"address": address} for address in others],
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        # Workers share a port, and a server with what answers until it is ready. Two servers that share one by
        # accident would answer each other's clients.
        "enable_reuse_port": shares_ports,
    }
    return outer


def _fill_manager(manager: dict[str, Any], config: ServerConfig) -> None:
    """Complete the connection manager that pyvoy made."""
    transport = config.transport
    http2: dict[str, Any] = {
        "max_concurrent_streams": transport.max_concurrent_streams,
        "initial_stream_window_size": _WINDOW_BYTES,
        "initial_connection_window_size": 4 * _WINDOW_BYTES,
        # The other codec closes connections with more than 33 cancelled calls a second; see _RUNTIME.
        "use_oghttp2_codec": True,
        # One frame holds hundreds of small replies of a stream, and a client may open its window again after each of
        # them. Envoy closes connections that do so more than ten times for each frame that it has sent.
        "max_inbound_window_update_frames_per_data_frame_sent": 2048,
    }
    if transport.keepalive_s:
        http2["connection_keepalive"] = {"interval": _seconds(transport.keepalive_s), "timeout": _KEEPALIVE_TIMEOUT}
    manager["http_filters"].insert(0, _PATH_FILTER)
    has_sockets = any(address.startswith("unix") for address in transport.listen)
    manager |= {
        "early_header_mutation_extensions": [_ARRIVAL, *([_CONNECTION] if has_sockets else [])],
        # Accepts HTTP/1.1 too, chosen by preface or ALPN, for curl and for browsers behind proxies.
        "codec_type": "AUTO",
        "http2_protocol_options": http2,
        "common_http_protocol_options": _lifetimes(transport),
        # No timeouts here: gRPC has deadlines, and a stream may be idle for as long as the client wants.
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        # Use the connection's address, not one that the client claims in a header.
        "use_remote_address": True,
        "skip_xff_append": True,
        # A client's request id goes on to samplerd, which makes one where one is missing, as with the other transport.
        "generate_request_id": False,
        "preserve_external_request_id": True,
    }
    if config.envoy.access_log:
        manager["access_log"] = [_access_log(config.envoy.access_log)]


def _lifetimes(transport: TransportConfig) -> dict[str, Any]:
    options = {"idle_timeout": _seconds(transport.max_connection_idle_s)}
    if transport.max_connection_age_s:
        options["max_connection_duration"] = _seconds(transport.max_connection_age_s)
    return options


def _seconds(seconds: float) -> str:
    return f"{seconds:.6f}s"


def _address(address: str) -> dict[str, Any]:
    scheme, _, path = address.partition(":")
    if scheme == "unix":
        return {"pipe": {"path": path.removeprefix("//")}}
    if scheme == "unix-abstract":
        return {"pipe": {"path": f"@{path}"}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _admin(envoy: EnvoyConfig, folder: Path) -> dict[str, Any]:
    if envoy.admin:
        return _address(envoy.admin)
    return {"pipe": {"path": str(folder / "admin"), "mode": 0o600}}


def _overload_manager(envoy: EnvoyConfig) -> dict[str, Any]:
    monitors: list[dict[str, Any]] = [
        _monitor(
            "global_downstream_max_connections",
            "downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=envoy.max_connections,
        )
    ]
    actions = []
    if envoy.max_heap_bytes:
        monitors.append(
            _monitor("fixed_heap", "fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=envoy.max_heap_bytes)
        )
        for name, threshold in (("shrink_heap", _SHRINK_AT), ("stop_accepting_requests", _REFUSE_AT)):
            trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
            actions.append({"name": f"envoy.overload_actions.{name}", "triggers": [trigger]})
    return {"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": actions}


def _monitor(name: str, kind: str, **values: int) -> dict[str, Any]:
    config = {"@type": f"{_TYPES}.extensions.resource_monitors.{kind}", **values}
    return {"name": f"envoy.resource_monitors.{name}", "typed_config": config}


def _access_log(where: str) -> dict[str, Any]:
    log_format = {"json_format": _ACCESS_LOG, "omit_empty_values": True}
    if where in {"stdout", "stderr"}:
        kind = f"{_TYPES}.extensions.access_loggers.stream.v3.{where.title()}AccessLog"
        return {"name": where, "typed_config": {"@type": kind, "log_format": log_format}}
    kind = f"{_TYPES}.extensions.access_loggers.file.v3.FileAccessLog"
    return {"name": "file", "typed_config": {"@type": kind, "path": where, "log_format": log_format}}


def _transport_socket(security: SecurityConfig, folder: Path) -> dict[str, Any]:
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [_by_file(_SERVER, folder)],
    }
    if security.client_ca:
        common["validation_context_sds_secret_config"] = _by_file(_CLIENT_CA, folder)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.{_TLS}.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": bool(security.client_ca),
        },
    }


def _by_file(name: str, folder: Path) -> dict[str, Any]:
    return {"name": name, "sds_config": {"path_config_source": {"path": str(folder / name)}}}


def envoy_secrets(security: SecurityConfig) -> dict[str, dict[str, Any]]:
    """Give the files, by name, that tell Envoy where the certificates are. None of them holds a key.

    Envoy reads a certificate and its key again when a file is moved into the certificate's folder.
    """
    secrets: dict[str, dict[str, Any]] = {}
    if security.certificate:
        secrets[_SERVER] = {
            "tls_certificate": {
                "certificate_chain": _file(security.certificate),
                "private_key": _file(security.key),
                "watched_directory": {"path": str(Path(security.certificate).absolute().parent)},
            }
        }
    if security.client_ca:
        secrets[_CLIENT_CA] = {
            "validation_context": {
                "trusted_ca": _file(security.client_ca),
                "watched_directory": {"path": str(Path(security.client_ca).absolute().parent)},
            }
        }
    return {
        name: {"resources": [{"@type": f"{_TYPES}.{_TLS}.Secret", "name": name, **secret}]}
        for name, secret in secrets.items()
    }


def _file(path: str) -> dict[str, str]:
    return {"filename": str(Path(path).absolute())}


def remove_sockets(addresses: Iterable[str]) -> None:
    """Remove the Unix sockets among these addresses, which Envoy leaves behind."""
    for address in addresses:
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:").removeprefix("//")).unlink(missing_ok=True)
