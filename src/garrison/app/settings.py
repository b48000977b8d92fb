"""The one reader of settings: file, then environment, then flags; the last one that speaks wins.

The file is `garrison.toml` in the data directory (or `--config FILE`), the environment variable of a
setting is `GARRISON_` and its name in capitals. Secrets are not settings: there is no field for one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from garrison.core.decision import Tier
from garrison.core.errors import Usage

DEFAULT_DATA = Path("garrison-data")
ISOLATION_LEVELS = ("landlock", "bwrap", "runc", "gvisor", "microvm")
STORE_ENCRYPTION = ("none", "aes-256-gcm")
MAX_FILE_BYTES = 64 * 1024  # a settings file is a page of text


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, with its safe default."""

    data: Path = DEFAULT_DATA
    """Directory that holds everything Garrison keeps; made with mode 0700."""
    listen: str = "127.0.0.1:8443"
    """Address and port of the gateway (TLS 1.3)."""
    names: str = ""
    """Further host names and addresses for the gateway's certificate, separated by commas."""
    metrics_listen: str = "127.0.0.1:9464"
    """Loopback address and port of the metrics listener; any free port when another program has that one."""
    workers: int = 1
    """Gateway worker processes, sharing the port."""
    isolation: str = "bwrap"
    """Sandbox level for model servers; never lowered silently."""
    model_threads: int = 1
    """CPU threads of each model server."""
    token_ttl: int = 900
    """Lifetime in seconds of an access token when none is asked for."""
    requests_per_minute: int = 600
    """Requests a minute for each identity and model."""
    tokens_per_minute: int = 120_000
    """Model tokens a minute for each identity and model."""
    concurrency: int = 16
    """Requests in progress at once for each identity and model."""
    limits_redis: str = ""
    """Redis or Valkey that counts limits for several gateways: unix:/PATH, redis://HOST:PORT or rediss://HOST:PORT."""
    limits_redis_password_file: str = ""
    """File with the password of limits_redis, readable by this user alone."""
    limit_replicas: int = 1
    """How many gateways share the limits: each one's part while limits_redis does not answer."""
    issuer_stale_seconds: int = 3_600
    """How long the keys of another issuer count while it cannot be reached."""
    login_alert_failures: int = 20
    """Failed logins of one source or identity that raise an alert; ten times as many of everybody together."""
    login_alert_minutes: int = 5
    """Minutes within which those failed logins count together."""
    snapshot_seconds: int = 900
    """How long gateway workers may serve on their last signed snapshot."""
    approval_days: int = 30
    """Days after which an approval that was not completed expires."""
    environment: str = "production"
    """The environment that this server deploys for: which approved list decides."""
    verify_hours: int = 24
    """Hours between two checks of every stored version, where it lies."""
    drift_hours: int = 24
    """Hours between two comparisons of every imported version with its source."""
    store_check_hours: int = 24
    """Hours between two checks that the store of model files is closed to others."""
    memory_share: float = 0.5
    """Largest share of memory that a model may take when it is loaded into sealed memory."""
    admission_exempt: str = ""
    """Further namespaces that admission does not ask about, separated by commas."""
    admission_tiers: str = ""
    """Tiers of namespaces that are not called models-TIER: NAMESPACE=TIER, separated by commas."""
    store: str = ""
    """Where model files are kept: local, or s3://bucket/prefix. Empty: as the data directory was begun (local)."""
    store_encryption: str = ""
    """none, or aes-256-gcm: Garrison encrypts every object itself. Empty: as the data directory was begun (none)."""
    database: str = ""
    """postgresql://USER@HOST:PORT/NAME, or with ?host=/DIRECTORY. Empty: as the data directory was begun (SQLite)."""
    database_passfile: str = ""
    """File with the password of database in PostgreSQL's form (.pgpass), readable by this user alone."""
    s3_endpoint: str = ""
    """Address of an S3 service that is not AWS, such as MinIO; https:// unless it is on this machine."""
    s3_kms_key: str = ""
    """KMS key for objects in S3 (SSE-KMS). Empty: the service's own keys (SSE-S3, AES-256)."""
    s3_retain_days: int = 0
    """Days for which Object Lock keeps every new object in S3 from being removed; 0: as the bucket says."""

    @property
    def admission_namespaces(self) -> tuple[frozenset[str], dict[str, Tier]]:
        """(exempt namespaces, tiers of others). Raises `Usage` SET-VALUE."""
        pairs = [part.strip().partition("=") for part in self.admission_tiers.split(",") if part.strip()]
        try:
            tiers = {name.strip(): Tier(tier.strip()) for name, _, tier in pairs}
        except ValueError:
            raise Usage(
                "SET-VALUE",
                f"admission_tiers is {self.admission_tiers[:100]!a}",
                fix=f"give NAMESPACE=TIER, separated by commas; tiers are {', '.join(Tier)}",
            ) from None
        exempt = frozenset(part.strip() for part in self.admission_exempt.split(",") if part.strip())
        return exempt, tiers

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def listen_address(self) -> tuple[str, int]:
        return parse_address(self.listen, "listen")

    @property
    def metrics_address(self) -> tuple[str, int]:
        return parse_address(self.metrics_listen, "metrics_listen")


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Build the settings. `flags` holds what the command line gave (None means not given).

    Raises `Usage` SET-UNKNOWN for a key that does not exist (naming the nearest one) and SET-VALUE for a
    value of the wrong type.
    """
    environment = os.environ if environment is None else environment
    known = {field.name: field for field in fields(Settings)}
    chosen: dict[str, Any] = {}
    from_environment = {
        key.removeprefix("GARRISON_").lower(): value
        for key, value in environment.items()
        if key.startswith("GARRISON_") and key.removeprefix("GARRISON_").lower() in known
    }
    given = {key: value for key, value in flags.items() if value is not None and key in known}
    data = Path(given.get("data") or from_environment.get("data") or DEFAULT_DATA)
    for origin, layer in (
        (
            str(file or data / "garrison.toml"),
            _read_file(file or data / "garrison.toml", required=file is not None),
        ),
        ("the environment", from_environment),
        ("the command line", given),
    ):
        for key, value in layer.items():
            if key not in known:
                raise _unknown(key, origin, list(known))
            chosen[key] = _coerce(key, value, known[key].type, origin)
    chosen["data"] = Path(chosen.get("data", data)).absolute()
    settings = Settings(**chosen)
    _check(settings)
    return settings


def parse_address(text: str, setting: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises `Usage` SET-VALUE."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise Usage(
            "SET-VALUE",
            f"{setting} is {text!r}, which is not HOST:PORT",
            fix="give an address and a port, such as 127.0.0.1:8443",
        )
    return host.strip("[]"), int(port)


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not required:
            return {}
        raise Usage(
            "SET-FILE", f"there is no settings file {path}", fix="check the path given to --config"
        ) from None
    except OSError as error:
        raise Usage("SET-FILE", f"{path}: {error.strerror}", fix="make the settings file readable") from error
    if len(text) > MAX_FILE_BYTES:
        raise Usage(
            "SET-FILE", f"{path} is larger than {MAX_FILE_BYTES} bytes", fix="keep the file to settings"
        )
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Usage(
            "SET-FILE", f"{path} is not TOML: {error}", fix="mend the line that the message names"
        ) from error


def _unknown(key: str, origin: str, known: list[str]) -> Usage:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}"
    return Usage("SET-UNKNOWN", f"{origin} sets {key!r}, which is not a setting", fix=hint)


def _coerce(key: str, value: Any, kind: Any, origin: str) -> Any:
    wanted = {"int": int, "float": float, "str": str, "Path": Path}[str(kind)]
    try:
        if isinstance(value, bool) or (wanted is str and not isinstance(value, str)):
            raise ValueError
        return wanted(value)
    except (TypeError, ValueError):
        raise Usage(
            "SET-VALUE",
            f"{origin} sets {key} to {value!r}, which is not {wanted.__name__}",
            fix=f"give {key} a value of type {wanted.__name__}",
        ) from None


def _check(settings: Settings) -> None:
    settings.listen_address  # noqa: B018 - parsing is the check
    settings.metrics_address  # noqa: B018 - parsing is the check
    rules = {
        "workers": (settings.workers, 1, 64),
        "model_threads": (settings.model_threads, 1, 256),
        "token_ttl": (settings.token_ttl, 30, 86_400),
        "requests_per_minute": (settings.requests_per_minute, 1, 10_000_000),
        "tokens_per_minute": (settings.tokens_per_minute, 1, 10_000_000_000),
        "concurrency": (settings.concurrency, 1, 100_000),
        "limit_replicas": (settings.limit_replicas, 1, 1_000),
        "issuer_stale_seconds": (settings.issuer_stale_seconds, 1, 86_400),
        "login_alert_failures": (settings.login_alert_failures, 3, 10_000),
        "login_alert_minutes": (settings.login_alert_minutes, 1, 1_440),
        "snapshot_seconds": (settings.snapshot_seconds, 30, 86_400),
        "approval_days": (settings.approval_days, 1, 365),
        "verify_hours": (settings.verify_hours, 1, 744),
        "drift_hours": (settings.drift_hours, 1, 744),
        "store_check_hours": (settings.store_check_hours, 1, 744),
        "memory_share": (settings.memory_share, 0.0, 0.9),
        "s3_retain_days": (settings.s3_retain_days, 0, 36_500),
    }
    for name, (value, low, high) in rules.items():
        if not low <= value <= high:
            raise Usage("SET-VALUE", f"{name} is {value}", fix=f"choose a value from {low} to {high}")
    settings.admission_namespaces  # noqa: B018 - parsing is the check
    if settings.store_encryption not in ("", *STORE_ENCRYPTION):
        raise Usage(
            "SET-VALUE",
            f"store_encryption is {settings.store_encryption!r}",
            fix=f"choose one of {', '.join(STORE_ENCRYPTION)}",
        )
    if settings.isolation not in ISOLATION_LEVELS:
        raise Usage(
            "ISO-UNKNOWN",
            f"{settings.isolation!r} is not an isolation level",
            fix=f"choose one of {', '.join(ISOLATION_LEVELS)}",
        )
