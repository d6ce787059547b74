"""docker-compose.yml holds together, by the rules of the Compose specification that matter here: no engine is asked."""

import re
from typing import Any

import pytest

from ops.service_addresses import check_database_address, check_redis_address, parse_hosts
from tests import containers
from tests.ops.deploy.artefacts import ROOT, check_command, compose, in_shell, known_settings, services

PLAIN = {"kafka", "postgres", "redis"}
ONE_SHOT = {"migrate", "train"}
WITHOUT_SERVER = {"traffic", "shoppers"}
NAMES = sorted(services())
CONDITIONS = {"service_healthy", "service_completed_successfully"}


@pytest.fixture(params=NAMES)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return services()[request.param] | {"name": request.param}


def test_without_a_profile_the_three_plain_services_start_and_nothing_else() -> None:
    assert {name for name, service in services().items() if not service.get("profiles")} == PLAIN


def test_the_images_of_the_services_are_those_that_tests_use() -> None:
    images = {name: services()[name]["image"] for name in PLAIN}

    assert images == {
        "kafka": containers.KAFKA_IMAGE,
        "postgres": containers.POSTGRES_IMAGE,
        "redis": containers.REDIS_IMAGE,
    }


def test_every_image_is_pinned_to_a_version(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"])


def test_ports_are_open_on_loopback_only_and_each_once() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]

    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_everything_that_serves_has_a_healthcheck_and_nothing_else(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    if service["name"] in ONE_SHOT | WITHOUT_SERVER:
        assert check == {"disable": True}
    else:
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= set(check)


def test_what_a_service_waits_for_exists_starts_in_its_profiles_and_can_become_so(service: dict[str, Any]) -> None:
    for name, wait in service.get("depends_on", {}).items():
        other = services()[name]
        assert wait["condition"] in CONDITIONS
        assert (wait["condition"] == "service_completed_successfully") == (name in ONE_SHOT)
        assert not other.get("profiles") or set(service["profiles"]) <= set(other["profiles"])
        if name in ONE_SHOT:
            assert other["restart"] == "no"


def test_nothing_waits_for_itself_by_way_of_others() -> None:
    waits = {name: set(service.get("depends_on", {})) for name, service in services().items()}
    while waits:
        free = {name for name, others in waits.items() if not others & set(waits)}
        assert free, f"these wait for each other: {sorted(waits)}"
        waits = {name: others for name, others in waits.items() if name not in free}


def test_named_volumes_are_declared_and_mounted_files_exist() -> None:
    mounted = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])]

    assert {source for source in mounted if not source.startswith(".")} == set(compose()["volumes"])
    assert all((ROOT / source).is_dir() for source in mounted if source.startswith("."))


def test_models_and_state_lie_in_volumes_that_all_processes_share() -> None:
    for name, service in services().items():
        if service["image"].startswith("headgate:"):
            folders = {volume.split(":")[1] for volume in service["volumes"]}
            environment = service["environment"]
            assert {environment["HEADGATE_MODELS"], environment["HEADGATE_STATE"]} == folders, name


def test_every_variable_is_a_setting(service: dict[str, Any]) -> None:
    variables = {name for name in service.get("environment", {}) if name.startswith("HEADGATE_")}

    assert variables <= known_settings()


def test_every_command_exists_with_its_options() -> None:
    checked = 0
    for service in services().values():
        if service["image"].startswith("headgate:"):
            shell = "entrypoint" in service
            for arguments in in_shell(service["command"][0]) if shell else [service["command"]]:
                check_command(arguments)
                checked += 1

    assert checked >= 12


def test_what_containers_know_kafka_by_is_a_listener_that_tells_them_so() -> None:
    kafka, worker = services()["kafka"]["environment"], services()["worker"]["environment"]

    advertised = dict(entry.split("://") for entry in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert worker["HEADGATE_KAFKA"] in advertised.values()
    assert advertised["PLAINTEXT"] == "localhost:9092"
    listeners = [entry.split("://")[0] for entry in kafka["KAFKA_LISTENERS"].split(",")]
    mapped = [entry.split(":")[0] for entry in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")]
    assert sorted(listeners) == sorted(mapped) == sorted({*advertised, "CONTROLLER"})


def test_health_is_asked_for_at_the_port_of_the_settings() -> None:
    ports = {
        "worker": "HEADGATE_METRICS_PORT",
        "retrain": "HEADGATE_RETRAIN_METRICS_PORT",
        "dashboard": "HEADGATE_DASHBOARD_PORT",
    }
    for name, variable in ports.items():
        service = services()[name]
        assert f":{service['environment'][variable]}/" in service["healthcheck"]["test"][-1]


def test_a_gpu_is_reserved_for_what_computes_on_one() -> None:
    for name in ("worker-gpu", "retrain-gpu"):
        service = services()[name]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        assert service["environment"]["HEADGATE_DEVICE"] == "cuda"
        assert (service["image"], service["profiles"]) == ("headgate:0.1.0", ["gpu"])
        assert service["command"] == services()[name.removesuffix("-gpu")]["command"]


def test_what_containers_reach_without_tls_is_named_and_is_a_service_of_this_file() -> None:
    for name, service in services().items():
        if service["image"].startswith("headgate:"):
            environment = service["environment"]
            hosts = parse_hosts(environment["HEADGATE_PLAINTEXT_HOSTS"])
            check_database_address(environment["HEADGATE_DATABASE"], hosts)
            check_redis_address(environment["HEADGATE_REDIS"], hosts)
            assert hosts == {"postgres", "redis"} <= set(services()), name
