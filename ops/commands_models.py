"""`headgate models`: who is registered, who is champion, who scores in its shadow."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ops.terminal import Json, cli_user, fail, load_settings, print_json

if TYPE_CHECKING:
    from storage.registry import ModelRecord, ModelRegistry

models = typer.Typer(help="Registered models.", no_args_is_help=True)

#: How the champion is made smaller.
Way = Literal["prune", "distil", "quantise", "all"]
Why = Annotated[str, typer.Option(help="Kept with the model.")]


@models.command("list")
def models_list(as_json: Json = False) -> None:
    """All versions, newest first."""
    records = _registry().list()
    if as_json:
        print_json({"models": [_model(record) for record in records]})
        return
    for record in records:
        ap = record.metrics.get("average_precision")
        print(
            f"{record.name}:{record.version:<4} {_standing(record):11} {record.created_at:%Y-%m-%d %H:%M}"
            f"  AP {'-' if ap is None else f'{ap:.3f}'}"
        )


@models.command("show")
def models_show(version: str, as_json: Json = False) -> None:
    """One version with its metrics and its card: data, quality by segment, limits; for example fraud:3."""
    from ops.jobs.card_words import card_in_words

    name, number = _name_and_version(version)
    record = _registry().get(name, number)
    if as_json:
        print_json(_model(record))
        return
    for key, value in (_model(record) | {"metrics": _in_words(record.metrics)}).items():
        print(f"{key:14} {value}")
    if card := record.metrics.get("card"):
        print("card", *(f"  {line}" for line in card_in_words(card)), sep="\n")


@models.command("promote")
def models_promote(version: str, why: Why = "by hand") -> None:
    """Make a version the champion; running workers take it over within seconds."""
    from ops.clock import utc_now

    name, number = _name_and_version(version)
    record = _registry().promote(name, number, why, utc_now)
    print(f"{record} is the champion")


@models.command("rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="Name of the model.")] = "fraud",
    why: Why = "rolled back by hand",
) -> None:
    """Make the version that was champion before the present one the champion again, past withdrawn ones."""
    from ops.clock import utc_now

    record = _registry().rollback(name, why, utc_now)
    print(f"{record} is the champion")


@models.command("shadow")
def models_shadow(
    version: Annotated[str | None, typer.Argument(help="For example fraud:3.")] = None,
    off: Annotated[bool, typer.Option("--off", help="No version scores in the shadow any more.")] = False,
) -> None:
    """Have a version score live traffic beside the champion. Its predictions are stored and never alert."""
    from ops.clock import utc_now

    if off:
        name = (version or "fraud").partition(":")[0]
        ended = _registry().end_shadow(name, utc_now)
        print(f"{ended} is no shadow any more" if ended else f"no version of {name} was in the shadow")
        return
    if version is None:
        fail("name the version that is to score in the shadow, like fraud:3, or say --off")
    record = _registry().start_shadow(*_name_and_version(version), utc_now)
    print(f"{record} scores in the shadow of the champion")


@models.command("keys")
def models_keys(
    private_key: Annotated[Path, typer.Argument(help="New file for the private key; only its owner may read it.")],
) -> None:
    """Make a pair of keys: one signs what is registered, the other tells whether a model may be loaded."""
    from ops.jobs.model_keys import write_new_keys

    keys = write_new_keys(private_key)
    print(f"key {keys.id}; its private part is in {private_key}")
    print(f'where models are registered:  HEADGATE_MODEL_SIGNING_KEY="$(cat {private_key})"')
    print(f"everywhere, once all that are in use are signed:  HEADGATE_MODEL_VERIFY_KEYS={keys.public}")


@models.command("sign")
def models_sign(version: str) -> None:
    """Sign a version that is registered already, in place of any signature that it has: only of what you know."""
    registry = _registry()
    if registry.trust.signer is None:
        fail("set HEADGATE_MODEL_SIGNING_KEY to the private key to sign with; `headgate models keys` makes one")
    record = registry.sign(registry.get(*_name_and_version(version)))
    print(f"{record} is signed with key {record.signing_key}")


@models.command("compress")
def models_compress(
    method: Annotated[Way, typer.Option(help="One way, or all three.")] = "all",
    hidden: Annotated[
        int | None,
        typer.Option(min=1, help="Hidden units that stay; default: an eighth of the champion's, 16 or more."),
    ] = None,
    latency_budget_ms: Annotated[
        float | None, typer.Option(min=1, help="Of a batch; default: HEADGATE_LATENCY_BUDGET_MS.")
    ] = None,
    events_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="What one worker must bear; default: the busiest hour in SQL.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="Average precision that a form may lose.")] = 0.02,
    promote: Annotated[bool, typer.Option("--promote", help="Make the chosen form the champion.")] = False,
    seed: Annotated[int, typer.Option()] = 0,
    as_json: Json = False,
) -> None:
    """Make smaller forms of the champion, prove them against it, and say which of them keeps the latency budget."""
    from models.gate import GateRules
    from ops.jobs.challenge import RetrainingRules
    from ops.jobs.compress import CompressionRules
    from ops.jobs.compress_command import run_compression
    from ops.jobs.compressed_forms import METHODS

    settings = load_settings()
    rules = CompressionRules(
        methods=[each for each in METHODS if method in ("all", each)],
        hidden=hidden,
        budget_seconds=(latency_budget_ms or settings.latency_budget_ms) / 1000,
        events_per_second=events_per_second,
        promote=promote,
        retraining=RetrainingRules(label_horizon=settings.label_horizon, seed=seed, gate=GateRules(margin=margin)),
    )
    run_compression(settings, rules, as_json=as_json)


def _registry() -> "ModelRegistry":
    from ops.model_registry import open_registry
    from storage.database import open_database

    settings = load_settings()
    return open_registry(settings, open_database(settings.database.get_secret_value())).by(cli_user())


def _standing(record: "ModelRecord") -> str:
    return record.alias or ("withdrawn" if record.withdrawn else "")


def _model(record: "ModelRecord") -> dict[str, Any]:
    names = (
        "name",
        "version",
        "alias",
        "kind",
        "created_at",
        "sha256",
        "signing_key",
        "feature_schema",
        "metrics",
        "promoted_at",
        "promoted_why",
        "withdrawn_at",
        "withdrawn_why",
    )
    return {name: getattr(record, name) for name in names}


def _in_words(metrics: Mapping[str, Any]) -> str:
    """A line for each figure, with its interval where there is one; of curves only what they rest on."""
    bounds: Mapping[str, list[float]] = metrics.get("intervals", {})
    lines = []
    for name, value in metrics.items():
        if name in ("curves", "intervals", "card"):
            continue
        figure = f"{value:.4g}" if isinstance(value, float) else str(value)
        if name in bounds:
            low, high = bounds[name]
            figure += f", 95 % interval {low:.3f} to {high:.3f}"
        lines.append(f"\n  {name:28} {figure}")
    if curves := metrics.get("curves"):
        names = "precision against recall" + (", calibration" if curves["calibration"] else "")
        rest_on = f"{curves['events']} events that were not trained on, {curves['frauds']} of them frauds"
        lines.append(f"\n  {'curves':28} {names} (--json has them), of {rest_on}")
    return "".join(lines)


def _name_and_version(text: str) -> tuple[str, int]:
    name, _, version = text.partition(":")
    if not version.isdigit():
        fail(f"{text!r} is no model version; write it like fraud:3")
    return name, int(version)
