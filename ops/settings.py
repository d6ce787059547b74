"""Every setting of Headgate: read from the environment or a .env file, prefix HEADGATE_, checked once at the start.

Only ops reads settings; the layers below get plain values. Addresses that may hold a password are SecretStr, so
that they never show in a log or a traceback. The descriptions here are the documentation (`settings_table`).
"""

import ipaddress
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from models.alert_rule import parse_rule
from ops.clock import utc_now
from ops.dashboard.roles import parse_tokens
from ops.kafka_settings import kafka_problems
from ops.secret_files import FILE_SUFFIX, SecretFile, SecretFileRefused, read_secret_files
from ops.service_addresses import check_database_address, check_redis_address, parse_hosts
from storage.model_trust import signing_key_of, verify_keys_of
from streams.pseudonyms import Pseudonyms, parse_keys

PREFIX = "HEADGATE_"


class SettingsError(ValueError):
    """One line for each setting that is wrong: its variable, what is wrong, what was given."""


def _plaintext_hosts(value: str) -> str:
    parse_hosts(value)
    return value


def _database_url(value: SecretStr, info: ValidationInfo) -> SecretStr:
    try:
        url = make_url(value.get_secret_value())
    except ArgumentError:
        raise ValueError("is no database URL; for example postgresql://user:password@host:5432/name") from None
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise ValueError(f"must begin with postgresql:// or sqlite:///, not {url.drivername}://")
    if url.get_backend_name() == "postgresql":
        check_database_address(value.get_secret_value(), parse_hosts(info.data.get("plaintext_hosts", "")))
    return value


def _redis_url(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://; for example redis://localhost:6379/0")
    check_redis_address(value.get_secret_value(), parse_hosts(info.data.get("plaintext_hosts", "")))
    return value


def _bootstrap_servers(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or "/" in host or not port.isdigit():
            raise ValueError(f"must be host:port, or several with commas; {server.strip()!r} is not")
    return value


def _alert_rule(value: str) -> str:
    parse_rule(value)
    return value.strip()


def _dashboard_tokens(value: SecretStr) -> SecretStr:
    parse_tokens(value.get_secret_value())
    return value


def _model_signing_key(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        signing_key_of(value.get_secret_value())
    return value


def _model_verify_keys(value: str) -> str:
    verify_keys_of(value)
    return value


def _addresses(value: str) -> str:
    for part in filter(None, (part.strip() for part in value.split(","))):
        try:
            ipaddress.ip_network(part)
        except ValueError:
            raise ValueError(
                f"must be addresses or networks with commas, as 10.0.0.7,10.1.0.0/16; {part!r} is none"
            ) from None
    return value


def _pseudonym_keys(value: SecretStr) -> SecretStr:
    parse_keys(value.get_secret_value())
    return value


class Settings(BaseSettings):
    """What a worker and the commands need to know. Construct with `read_settings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    # Services
    kafka: Annotated[str, AfterValidator(_bootstrap_servers)] = Field(
        "localhost:9092", description="Kafka bootstrap servers: host:port, several with commas."
    )
    plaintext_hosts: Annotated[str, AfterValidator(_plaintext_hosts)] = Field(
        "",
        description="Hosts of PostgreSQL and Redis that may be reached without verified TLS, because nobody else is on "
        "the way, as in a network of containers: names with commas. Default: this machine alone.",
    )
    database: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        SecretStr("postgresql://postgres@localhost:5432/headgate"),
        description="SQL database: postgresql://user:password@host:port/name?sslmode=verify-full&sslrootcert=FILE, "
        "or sqlite:///file.",
    )
    redis: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr("redis://localhost:6379/0"),
        description="Redis: rediss://user:password@host:port/number?ssl_ca_certs=FILE, on this machine also redis://.",
    )
    models: str = Field("models-registered", description="Model artifacts: folder, or object store URL (fsspec).")
    model_signing_key: Annotated[SecretStr, AfterValidator(_model_signing_key)] = Field(
        SecretStr(""),
        description="Private key that signs what is registered, from `headgate models keys`; only for processes that "
        "train or sign. Default: nothing is signed.",
    )
    model_verify_keys: Annotated[str, AfterValidator(_model_verify_keys)] = Field(
        "",
        description="Public keys, with commas, for every process: a model that none of them signed is refused. "
        "Default: no signature is asked for.",
    )
    state: str = Field(
        "state-snapshots",
        min_length=1,
        description="Snapshots of what is known of accounts and users: folder, or object store URL (fsspec); the same "
        "place for every worker.",
    )

    # Kafka
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="How every client talks to Kafka: SSL is TLS, SASL a login. SASL_PLAINTEXT on this machine only.",
    )
    kafka_ca_file: Path | None = Field(
        None, description="With TLS: PEM file of who vouches for the brokers. Default: whom the system trusts."
    )
    kafka_certificate_file: Path | None = Field(
        None, description="With TLS: PEM file of the certificate that brokers with mutual TLS ask for."
    )
    kafka_key_file: Path | None = Field(None, description="PEM file of that certificate's key.")
    kafka_key_password: SecretStr | None = Field(None, description="Password that the key file is encrypted with.")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="How SASL logs in: with user and password, or (OAUTHBEARER) with a token."
    )
    kafka_user: str | None = Field(None, description="User of PLAIN and SCRAM.")
    kafka_password: SecretStr | None = Field(None, description="Password of that user.")
    kafka_oauth_token_url: str | None = Field(
        None, description="With OAUTHBEARER: where tokens come from (client credentials), https:// or on this machine."
    )
    kafka_oauth_client_id: str | None = Field(None, description="Who asks for tokens.")
    kafka_oauth_client_secret: SecretStr | None = Field(None, description="The secret of who asks for tokens.")
    kafka_oauth_scope: str | None = Field(None, description="Scope that tokens are asked for with. Default: none.")
    kafka_oauth_ca_file: Path | None = Field(
        None, description="PEM file of who vouches for the token URL's server. Default: whom the system trusts."
    )
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic name and the consumer group."
    )
    group: str = Field("headgate", min_length=1, description="Consumer group; workers of one group share partitions.")
    worker_id: str | None = Field(
        None, description="Name of this worker, unique and kept over restarts. Default: host name and process id."
    )
    start_from: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a topic is read from at the very first start; SQL holds the place from then on."
    )
    session_timeout_seconds: float = Field(
        6.0, ge=1, le=300, description="A worker silent for so long loses its partitions to the others."
    )
    latency_budget_ms: float = Field(
        500,
        ge=1,
        le=60_000,
        description="How long it may take to score and store a batch while many records wait: decides how many make "
        "one (1,024 to 8,192), and which form of a detector `headgate models compress` picks. Milliseconds.",
    )
    record_size_limit: int = Field(
        1_000_000, ge=1024, le=50_000_000, description="A larger record becomes a dead letter. Bytes."
    )
    publish_predictions: bool = Field(
        False, description="Publish every prediction to the topic `predictions`, not the alerts alone."
    )

    # People
    pseudonym_keys: Annotated[SecretStr, AfterValidator(_pseudonym_keys)] = Field(
        SecretStr(""),
        description="Keys for pseudonyms of accounts, users and memos: id=base64key pairs with commas, the current one "
        "first, the others to recognise what was made before. Default: ids and memos are kept in clear.",
    )

    # Decisions
    rates: Path | None = Field(
        None, description="JSON file of currency to its value in the base currency. Default: all are worth one."
    )
    future_tolerance_seconds: float = Field(
        300, ge=0, le=86_400, description="An event further ahead of its Kafka record's time becomes a dead letter."
    )
    alert_rule: Annotated[str, AfterValidator(_alert_rule)] = Field(
        "budget",
        description="What sets the threshold: budget (the model's own) or budget:100 (alerts a day), precision:0.8, "
        "anomaly:0.0001 (share of ordinary events), or registered (the model's, unchanged).",
    )
    alert_fold_minutes: float = Field(
        30, gt=0, description="An alerting event of an account so soon after its last joins the open alert."
    )
    alert_max_age_seconds: float = Field(
        86_400, gt=0, description="While catching up, an older event is scored and stored but raises no alert."
    )
    feedback_expiry_days: float = Field(
        90, gt=0, description="Feedback about something unknown is given up after this time."
    )
    label_horizon_days: float = Field(
        7,
        gt=0,
        le=3650,
        description="Age from which an event counts as legitimate unless it has a label; from then on labels teach.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where the models run: cpu, cuda, cuda:1, or auto (CUDA where there is one).",
    )

    # Recommendations
    slate_size: int = Field(6, ge=1, le=50, description="Items in a recommendation.")
    exploration: float = Field(
        0.05, ge=0, lt=1, description="Share of the choice that is spread evenly over the candidates, to learn from."
    )
    random_holdout: float = Field(
        0.05, ge=0, lt=1, description="Share of users who always get random items: what the policy is measured against."
    )
    slate_max_age_seconds: float = Field(
        300, ge=0, description="From this age on, an impression alone makes a new slate; all else does so at once."
    )
    most_impressions: int = Field(
        3, ge=1, le=24, description="An item that a user saw so often within a day rests for him."
    )
    most_of_category: int = Field(3, ge=1, description="Most items of one category in a slate.")
    reward_window_hours: float = Field(
        24, gt=0, description="Age of a slate from which its rewards count as complete; from then on they teach."
    )

    # State
    snapshot_seconds: float = Field(
        30, gt=0, description="How often what changed of a partition's state is kept, for a quick restart."
    )
    most_resident: int = Field(
        1_000_000,
        ge=1,
        description="Accounts, and as many users, that a worker holds in memory; 2 KB each. The others wait in SQL.",
    )
    retention_days: int = Field(
        180,
        ge=1,
        le=3650,
        description="Days of transactions, predictions, engagements and slates that `headgate prune` leaves in SQL.",
    )

    # Redis
    redis_prefix: str = Field("headgate:", description="Put before every Redis key and channel.")
    redis_ttl_seconds: int = Field(604_800, ge=1, description="How long Redis keeps what is not renewed.")
    alerts_stream_maxlen: int = Field(
        100_000, ge=1, description="About how many entries the Redis stream `alerts` keeps."
    )

    # Watching
    metrics_host: str = Field("127.0.0.1", description="Address for metrics and health; all hosts: 0.0.0.0.")
    metrics_port: int = Field(
        9464, ge=0, le=65_535, description="A worker's port for metrics and health; 0 takes a free one."
    )
    retrain_metrics_port: int = Field(
        9465,
        ge=0,
        le=65_535,
        description="Port for metrics and health of a `headgate retrain` that goes on; 0 takes a free one.",
    )
    dashboard_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address for the console; one that other machines can reach needs HEADGATE_DASHBOARD_TOKENS.",
    )
    dashboard_port: int = Field(8080, ge=0, le=65_535, description="Port for the console; 0 takes a free one.")
    dashboard_tokens: Annotated[SecretStr, AfterValidator(_dashboard_tokens)] = Field(
        SecretStr(""),
        description="Who may use the console: role=token or role:name=token with commas, roles viewer, analyst and "
        "operator, tokens of 16 characters or more. Default: whoever reaches it may do everything.",
    )
    dashboard_proxies: Annotated[str, AfterValidator(_addresses)] = Field(
        "",
        description="Addresses or networks, with commas, of proxies in front of the console: what they say of who asks "
        "(X-Forwarded-For) is believed. Default: nobody is believed.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["console", "json"] = Field("console", description="Log lines for people or for machines.")

    #: Of settings that were read from a file of their own.
    _secret_files: dict[str, SecretFile] = PrivateAttr(default_factory=dict)

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """None where clear ids are kept."""
        return Pseudonyms.of_keys(self.pseudonym_keys.get_secret_value())

    @property
    def label_horizon(self) -> timedelta:
        return timedelta(days=self.label_horizon_days)

    @property
    def reward_window(self) -> timedelta:
        return timedelta(hours=self.reward_window_hours)

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these settings: a secret that is still what its file said by
        the file's name, other secrets in clear."""
        values = {}
        for name in type(self).model_fields:
            value, file = getattr(self, name), self._secret_files.get(name)
            if isinstance(value, SecretStr):
                from_file = file is not None and file.content == value.get_secret_value()
                # Empty: whatever the process inherits under this name is not set.
                values[variable(name)] = "" if from_file else value.get_secret_value()
                values[variable(name) + FILE_SUFFIX] = str(file.path) if file is not None and from_file else ""
            elif value is not None:
                values[variable(name)] = str(value)
        return values

    def exposed_files(self) -> list[Path]:
        """Files with secrets that every user of this machine may read."""
        return [file.path for file in self._secret_files.values() if file.exposed]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def secret_names() -> list[str]:
    """The settings whose value never shows, and may come from a file."""
    secret = (SecretStr, SecretStr | None)
    return [name for name, setting in Settings.model_fields.items() if setting.annotation in secret]


def read_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Settings from the environment, the .env file and files of secrets. Raises SettingsError."""
    files = _secret_files(env_file)
    secrets = {name: SecretStr(file.content) for name, file in files.items()}
    try:
        settings = Settings(_env_file=env_file, **secrets)  # type: ignore[call-arg, arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error, files))) from None
    settings._secret_files.update(files)
    if problems := kafka_problems(settings, utc_now()):
        raise SettingsError("\n".join(problems))
    return settings


def _secret_files(env_file: Path | None) -> dict[str, SecretFile]:
    """By setting."""
    written = dotenv_values(env_file) if env_file is not None else {}
    given = {name.upper(): value for name, value in [*written.items(), *os.environ.items()] if value is not None}
    by_variable = {variable(name): name for name in secret_names()}
    try:
        return {by_variable[found]: file for found, file in read_secret_files(by_variable, given).items()}
    except SecretFileRefused as problem:
        raise SettingsError(str(problem)) from None


def _lines(error: ValidationError, files: Mapping[str, SecretFile]) -> list[str]:
    """`HEADGATE_GROUP: should have at least 1 character (given: '')`; a secret's value is not shown."""
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        given = "" if name in secret_names() else f" (given: {problem['input']!r})"
        lines.append(f"{variable(name)}{FILE_SUFFIX if name in files else ''}: {message}{given}")
    return lines


def settings_table() -> list[tuple[str, str, str]]:
    """(variable, default, description) of every setting, for the documentation."""
    rows = []
    for name, setting in Settings.model_fields.items():
        default = setting.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "" if default in (None, PydanticUndefined) else str(default)
        also = f" Or `{variable(name)}{FILE_SUFFIX}`: a file that holds it." if name in secret_names() else ""
        rows.append((variable(name), shown, f"{setting.description or ''}{also}"))
    return rows
