"""Settings of who is let in: TLS, certificates of clients, tokens, and what each caller may do."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.config.parsers import optional_path, or_off
from samplerd_server.config.setting import ConfigError, Setting, setting

__all__ = ["SecurityConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """TLS, client certificates and tokens."""

    certificate: str = setting(
        "",
        Setting(
            flag="tls-cert",
            help="PEM file of the server's certificate chain; turns on TLS for TCP addresses; off = plain text",
            parse=optional_path,
            value="FILE",
            show=or_off,
        ),
    )
    key: str = setting(
        "",
        Setting(
            flag="tls-key",
            help="PEM file of the certificate's private key, unencrypted",
            parse=optional_path,
            value="FILE",
            show=or_off,
        ),
    )
    client_ca: str = setting(
        "",
        Setting(
            flag="tls-client-ca",
            help="PEM file of the authorities that sign clients' certificates; a client without such a certificate is "
            "refused",
            parse=optional_path,
            value="FILE",
            show=or_off,
        ),
    )
    token_file: str = setting(
        "",
        Setting(
            flag="token-file",
            help="file of accepted bearer tokens, one per line: NAME:sha256:DIGEST, or the token itself; health checks "
            "need no token; off = no call needs one",
            parse=optional_path,
            value="FILE",
            show=or_off,
        ),
    )
    policy_file: str = setting(
        "",
        Setting(
            flag="policy-file",
            help="TOML file of the methods that each identity may call; every other call is refused; off = whoever is "
            "let in may call every method",
            parse=optional_path,
            value="FILE",
            show=or_off,
        ),
    )

    def __post_init__(self) -> None:
        """Check that settings which need each other are given together.

        Raises:
            ConfigError: one of them is missing.

        """
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("--tls-cert and --tls-key need each other")
        if self.client_ca and not self.certificate:
            raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.policy_file and not (self.token_file or self.client_ca):
            raise ConfigError("--policy-file needs --token-file or --tls-client-ca, which tell who calls")
