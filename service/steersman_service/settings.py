"""The settings of the server. The environment (`STEERSMAN_*`) is read once, at start; flags of `serve` go before it."""

import os
from glob import glob
from pathlib import Path
from typing import Any, Literal, Self

from loky import cpu_count
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from steersman_service.certificates import TlsFiles
from steersman_service.engine.options import EngineOptions
from steersman_service.errors import StartupError
from steersman_service.identity.identity import Role
from steersman_service.identity.options import IdentityOptions, JwtOptions, check_keys_url
from steersman_service.secret_settings import SecretSettings
from steersman_service.sessions.redis_url import check_redis_url
from steersman_service.telemetry.traces import checked_endpoint

PREFIX = "STEERSMAN_"
# Of clients, which may run in the same environment.
CLIENT_VARIABLES = {"STEERSMAN_TOKEN"}
DOORS = ("grpc", "http", "metrics")
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
GPU_FILES = "/dev/nvidia[0-9]*"
CORES_PER_ENGINE = 8
# gRPC takes milliseconds, of 32 bits.
MOST_SECONDS = 2e6


class Settings(SecretSettings):
    """Checked once, frozen after. Limits are what callers may send; they are published by GetModelInfo."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        str_strip_whitespace=True,
        hide_input_in_errors=True,
        ser_json_inf_nan="constants",  # a worker is told them as JSON, and "inf" turns a limit off
    )

    host: str = Field("127.0.0.1", description="Address that gRPC listens on")
    port: int = Field(50051, ge=0, le=65535, description="Port that gRPC listens on; 0 picks a free one")
    metrics: Literal["on", "off"] = Field("on", description="Whether metrics are collected, and served to Prometheus")
    metrics_host: str = Field("127.0.0.1", description="Address of the Prometheus endpoint")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port of the Prometheus endpoint; 0 picks a free one")

    http: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether the server answers HTTP, too; auto does if the extra http is installed"
    )
    http_host: str = Field("127.0.0.1", description="Address that HTTP listens on")
    http_port: int = Field(8080, ge=0, le=65535, description="Port that HTTP listens on; 0 picks a free one")
    http_allowed_hosts: str = Field(
        LOOPBACK_HOSTS,
        description="Names by which HTTP may be called, with commas between; *.example.org is any name below, * any at all",
    )
    http_cors_origins: str | None = Field(
        None, description="Other sites whose pages may call: https://example.org, with commas between (default: none)"
    )
    http_console: Literal["on", "off"] = Field("on", description="Whether HTTP serves the console, at /console/")
    http_max_body_bytes: int = Field(4 << 20, ge=1024, description="Largest body that HTTP takes, in bytes")

    tls_cert: Path | None = Field(
        None,
        description="The server's certificate in PEM, then those between it and its authority: with it gRPC, HTTP and metrics speak"
        " TLS. These files are read again when they change",
    )
    tls_key: Path | None = Field(None, description="The certificate's private key in PEM, without a passphrase")
    tls_ca: Path | None = Field(
        None, description="Authorities in PEM that sign clients' certificates: with it clients have to show one"
    )
    tls_client_certs: str = Field(
        ",".join(DOORS), description="Where they have to, if tls_ca is set: grpc, http, metrics, with commas between"
    )
    insecure: Literal["off", "metrics", "on"] = Field(
        "off",
        description="on lets it listen beyond this machine without TLS, or without knowing its callers; metrics lets the Prometheus"
        " endpoint alone, which then speaks plain HTTP",
    )
    api_keys: Path | None = Field(
        None,
        description="File of API keys, by hash: a line of JSON for each, as `steersman key new` prints it. Read again when it changes",
    )
    jwt_keys: str | None = Field(
        None,
        min_length=1,
        description="Public keys of the issuer of JWTs: a file (PEM or JWKS), read again when it changes, or the https URL of a JWKS",
    )
    jwt_issuer: str | None = Field(None, description="What the claim iss of a JWT has to be; needed with jwt_keys")
    jwt_audience: str | None = Field(None, description="What the claim aud of a JWT has to hold; needed with jwt_keys")
    jwt_tenant_claim: str = Field("tenant", description="Claim of a JWT that has its tenant; a path may have dots")
    jwt_roles_claim: str = Field(
        "roles",
        description="Claim of a JWT that has its roles, as a list or a text; a path may have dots: realm_access.roles",
    )
    certificate_identity: Literal["on", "off"] = Field(
        "off",
        description="Whether a client's certificate says who calls, by its name steersman://TENANT/NAME?role=ROLE",
    )
    anonymous_role: Literal["auto", "none", "recommend", "steer", "admin"] = Field(
        "auto",
        description="Role of a call without credentials; auto: admin where api_keys, jwt_keys and certificate_identity are all off, none"
        " where one is on",
    )
    reflection: Literal["on", "off", "admin"] = Field(
        "on",
        description="Whether gRPC describes its services to every caller, to none, or to those with the role admin",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=1,
        description="Token that a scrape of the Prometheus endpoint has to bring (Bearer); default: none",
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder of files that are named like settings and hold their values: redis_url, metrics_token. What the environment"
        " says goes before",
    )

    data: Path = Field(Path("data"), description="Data folder: bundles, and the embedded session store")
    bundle: str | None = Field(
        None,
        description="Bundle folder, or a link to one (default: DATA/bundles/current); or s3://BUCKET/PREFIX or hf://OWNER/REPO@REVISION,"
        " from which it is pulled to DATA/bundles",
    )
    bundle_watch_seconds: float = Field(
        2.0,
        ge=0,
        allow_inf_nan=False,
        description="How often the server looks whether that link, or source, names another bundle, which it then loads and serves, in"
        " seconds; 0: never",
    )
    bundle_keys: Path | None = Field(
        None,
        description="Public keys, a file or a folder of *.pub: only bundles signed by one of them are served (default: any)",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Session store: redis://, rediss:// (TLS), unix://, redis+sentinel://HOST,HOST/NAME or redis+cluster://HOST,HOST;"
        " without it an embedded Valkey keeps DATA/valkey",
    )
    redis_timeout_seconds: float = Field(
        1.0,
        gt=0,
        description="Longest wait for the session store, in seconds; three quarters of what a call's deadline leaves bound it, too",
    )
    redis_wait_replicas: int = Field(
        0,
        ge=0,
        description="Replicas that must have a change of a session before it is acknowledged (WAIT); with fewer the call fails as"
        " UNAVAILABLE, and may be repeated",
    )
    redis_wait_ms: int = Field(500, ge=1, description="Longest wait for those replicas, in milliseconds")

    workers: int = Field(1, ge=1, description="Front ends: processes that share the port and call the engines")
    engines: int | None = Field(
        None,
        ge=0,
        description="Engine hosts: processes that compute, each with a queue of its own. 0 computes in each front end. Default: 1 on a GPU;"
        " on a CPU 1 for each 8 cores, or 0 where there are fewer than two cores for each front end",
    )
    backend: Literal["onnx", "torch"] = Field("onnx", description="What runs the graphs")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where they run; auto takes a GPU if there is")
    inference_threads: int = Field(
        0,
        ge=0,
        description="CPU threads of one batch. 0 shares the cores that machine and container give among the engines, less one for each"
        " front end where engines are processes of their own",
    )
    search: Literal["auto", "exact"] = Field(
        "auto", description="auto takes the approximate index of a bundle that carries one; exact misses no item"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Of the item table that the torch backend looks through; what it finds in half precision is scored in float32",
    )
    cuda_graphs: Literal["auto", "off"] = Field(
        "auto",
        description="Whether the torch backend captures at start what a GPU does for every request; off starts each of its steps anew",
    )
    queue_size: int = Field(256, ge=1, description="Requests that may wait; more are refused at once")
    max_batch: int = Field(64, ge=1, description="Most requests computed together")
    batch_ms: float = Field(
        100.0,
        gt=0,
        description="Longest that a batch is expected to take, if it is more than one request, in milliseconds",
    )
    state_cache_mb: int = Field(
        64, ge=0, description="Memory for hidden states of histories that may come again, in MiB; 0 keeps none"
    )
    kv_cache_mb: int = Field(
        256, ge=0, description="Memory for keys and values of histories that may grow, in MiB; 0 keeps none"
    )
    session_cache_mb: int = Field(
        32, ge=0, description="Memory for sessions that were read and may come again, in MiB; 0 keeps none"
    )

    max_calls: int = Field(
        4096, ge=1, description="Calls in flight of a front end; more are refused at once, but for health checks"
    )
    max_waiting_calls: int = Field(
        256,
        ge=1,
        le=100_000,  # of those that were reset meanwhile, gRPC's core keeps 13 kB each
        description="Calls that have arrived at a front end and that it has not looked at; more are CANCELLED at once, without a reason",
    )
    max_streams: int = Field(1024, ge=1, description="Open streams of a front end: watches of health, reflection")
    max_connections: int = Field(
        1024,
        ge=1,
        le=2**31 - 1,
        description="Open connections of a front end, and of the gateway; more are closed at once",
    )
    max_connection_idle_seconds: float = Field(
        300.0,
        gt=0,
        le=MOST_SECONDS,
        description="A connection without a call is closed after, in seconds; clients connect again",
    )

    max_history_items: int = Field(10_000, ge=1, description="Most items of an explicit history")
    max_controls: int = Field(32, ge=1, description="Most controls of a request or of a session")
    max_strength: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="Largest magnitude of a control's strength"
    )
    max_k: int = Field(1000, ge=1, description="Most items of an answer")
    max_filter_items: int = Field(10_000, ge=1, description="Most ids and values in all filters of a request")
    max_batch_requests: int = Field(32, ge=1, description="Most requests of one BatchRecommend")
    max_events_per_append: int = Field(1000, ge=1, description="Most events of one AppendEvents")
    max_session_events: int = Field(1000, ge=1, description="Events kept for each session, the latest ones")
    max_tenant_sessions: int = Field(
        0,
        ge=0,
        description="Sessions that a tenant may keep, about; 0 sets no limit. Callers without a tenant share one",
    )
    max_tenant_session_bytes: int = Field(
        0,
        ge=0,
        description="Memory of the session store that a tenant's sessions may take, about, in bytes; 0 sets no limit",
    )
    session_ttl_seconds: float = Field(
        30 * 86400.0,
        ge=0.001,
        le=1e10,
        description="A session lives this long after its last use, less a tenth at most, in seconds",
    )

    dislike_strength: float = Field(
        0.25,
        ge=0,
        le=2,
        description="Strength of the control against what a session's disliked and hidden items have in common; 0 makes none",
    )
    exposure_stream_events: int = Field(
        0,
        ge=0,
        description="Shown events kept in the stream steersman:exposure of the session store, about, the latest ones; 0 keeps none",
    )
    scenario_replay: Literal["report", "block", "off"] = Field(
        "report",
        description="Whether scenarios that were put under another bundle are replayed at start: report logs and counts those that do"
        " something else now; block refuses to serve with one, too; off replays none",
    )

    drain_delay_seconds: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Time for load balancers at shutdown: health says NOT_SERVING this long before calls are turned away, in seconds",
    )
    drain_seconds: float = Field(
        20.0, ge=0, le=MOST_SECONDS, description="Longest wait for calls in flight at shutdown, in seconds"
    )
    max_message_bytes: int = Field(
        4 << 20, ge=1024, le=2**31 - 1, description="Largest message taken or given, in bytes"
    )
    max_connection_age_seconds: float | None = Field(
        None,
        gt=0,
        le=MOST_SECONDS,
        description="Connections are closed after, in seconds, so that clients spread anew (default: never)",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity logged: debug logs every call, info failed ones, warning slow ones"
    )
    log_format: Literal["json", "console"] = Field("console", description="A JSON object or a readable line an event")

    traces_endpoint: str | None = Field(
        None,
        description="OTLP receiver (gRPC) that traces are sent to, http://HOST:4317 or https://HOST:4317; needs the extra traces"
        " (default: no traces)",
    )
    traces_sample: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of calls whose trace is recorded, among those that bring no traceparent; one that does decides itself",
    )

    stall_seconds: float = Field(
        10.0,
        gt=0,
        description="An engine, a process or an event loop that makes no progress for this long is replaced, in seconds; inf turns it off",
    )
    default_deadline_ms: float = Field(
        30_000.0, gt=0, description="Deadline of a call that brings none, in milliseconds; inf turns it off"
    )
    slow_call_ms: float = Field(1000.0, gt=0, description="A call that takes longer is logged as slow, in milliseconds")
    list_change_sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of steered requests whose list is compared with the list without controls; 0 turns it off",
    )

    @model_validator(mode="after")
    def _known_environment(self) -> Self:
        known = {f"{PREFIX}{name}".upper() for name in type(self).model_fields} | CLIENT_VARIABLES
        unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; `steersman serve --help` lists them all")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        for name, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_ca", "tls_cert")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise ValueError(f"{name}: needs {other}, too")
        return self

    @field_validator("tls_client_certs")
    @classmethod
    def _known_doors(cls, text: str) -> str:
        doors = _listed(text)
        if unknown := [door for door in doors if door not in DOORS]:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(DOORS)}")
        if not doors:
            raise ValueError(f"is empty: name one at least of {', '.join(DOORS)}, or leave tls_ca out")
        return text

    @field_validator("host", "http_host")
    @classmethod
    def _in_brackets(cls, host: str) -> str:
        """An address of IPv6 as gRPC and URLs want it: [::1]."""
        return f"[{host}]" if ":" in host and not host.startswith("[") else host

    @model_validator(mode="after")
    def _waits_in_time(self) -> Self:
        if self.redis_wait_replicas and self.redis_wait_ms >= 1e3 * self.redis_timeout_seconds:
            raise ValueError(
                f"redis_wait_ms of {self.redis_wait_ms} has to be less than"
                f" redis_timeout_seconds of {self.redis_timeout_seconds:g}, in milliseconds"
            )
        return self

    @field_validator("redis_url")
    @classmethod
    def _understood(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_redis_url(url.get_secret_value())
        return url

    @field_validator("traces_endpoint")
    @classmethod
    def _sendable(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else checked_endpoint(endpoint)

    @field_validator("bundle", mode="before")
    @classmethod
    def _as_text(cls, bundle: Any) -> Any:
        return os.fspath(bundle) if isinstance(bundle, os.PathLike) else bundle

    @model_validator(mode="after")
    def _callers_can_be_known(self) -> Self:
        if self.certificate_identity == "on" and not self.demands_certificates("grpc"):
            raise ValueError("certificate_identity: needs tls_ca, with grpc in tls_client_certs")
        if self.jwt_keys is None:
            return self
        if not (self.jwt_issuer and self.jwt_audience):
            raise ValueError(
                "jwt_keys: needs jwt_issuer and jwt_audience: a token of another issuer or for another service is none"
            )
        if "://" in self.jwt_keys and (wrong := check_keys_url(self.jwt_keys)):
            raise ValueError(f"jwt_keys: {wrong}")
        return self

    @property
    def identity_options(self) -> IdentityOptions:
        jwt = None
        if self.jwt_keys and self.jwt_issuer and self.jwt_audience:
            claims = self.jwt_tenant_claim, self.jwt_roles_claim
            jwt = JwtOptions(self.jwt_keys, self.jwt_audience, self.jwt_issuer, *claims)
        role = None if self.anonymous_role == "auto" else Role[self.anonymous_role.upper()]
        return IdentityOptions(jwt, self.api_keys, self.certificate_identity == "on", role)

    @property
    def tls_files(self) -> TlsFiles | None:
        """None: no TLS."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_ca)

    def demands_certificates(self, door: str) -> bool:
        """Whether clients have to show one at this one of DOORS."""
        return self.tls_ca is not None and door in _listed(self.tls_client_certs)

    @property
    def bundle_folder(self) -> Path:
        """Where the bundle lies, unless `bundle` is a source that it has to be pulled from."""
        return Path(self.bundle_source)

    @property
    def bundle_source(self) -> str:
        """What `bundle` comes to."""
        return self.bundle or str(self.bundles / "current")

    @property
    def bundles(self) -> Path:
        """The folder that bundles are pulled to."""
        return self.data / "bundles"

    @property
    def engine_count(self) -> int:
        """What `engines` comes to here."""
        if self.engines is not None:
            return self.engines
        if self._on_gpu:
            return 1
        return 0 if cores() // self.workers < 2 else max(1, cores() // CORES_PER_ENGINE)

    @property
    def threads(self) -> int:
        """What `inference_threads` comes to here: an engine's share of the cores."""
        if self.inference_threads:
            return self.inference_threads
        if not self.engine_count:
            return max(1, cores() // self.workers)
        return max(1, (cores() - self.workers) // self.engine_count)

    @property
    def engine_options(self) -> EngineOptions:
        return EngineOptions(
            self.backend,
            self.device,
            self.threads,
            self.search,
            self.precision,
            self.cuda_graphs,
            self.max_batch,
            self.state_cache_mb,
            self.kv_cache_mb,
            self.bundle_keys,
        )

    @property
    def _on_gpu(self) -> bool:
        """As far as can be told without torch or ONNX Runtime, whose import would cost a supervisor seconds."""
        return self.device == "cuda" or (self.device == "auto" and self.backend == "torch" and sees_gpu())


def sees_gpu() -> bool:
    """Whether NVIDIA's driver shows this process a GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and bool(glob(GPU_FILES))


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def cores() -> int:
    """That this process may use, by its affinity and by the CPU quota of its container."""
    return int(cpu_count())


def load_settings(**flags: Any) -> Settings:
    """Settings from `flags` (None: not given), then the environment, then the defaults. Raises StartupError."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        wrong = (": ".join([*map(str, e["loc"]), e["msg"].removeprefix("Value error, ")]) for e in error.errors())
        raise StartupError("settings: " + "; ".join(wrong)) from None
