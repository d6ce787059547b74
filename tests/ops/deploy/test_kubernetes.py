"""The manifests hold together: selectors, ports, names and settings agree, and every pod is restricted.

A test does not ask a cluster; kustomize builds both folders only where kubectl is installed, by hand.
"""

from typing import Any

import pytest
import yaml

from tests.ops.deploy.artefacts import (
    MANIFESTS,
    check_command,
    in_shell,
    known_settings,
    manifests,
    of_kind,
    pod_of,
    workloads,
)

NAMED = {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in workloads()}
LONG_RUNNING = [name for name in NAMED if name.startswith(("StatefulSet/", "Deployment/"))]


@pytest.fixture(params=NAMED)
def workload(request: pytest.FixtureRequest) -> dict[str, Any]:
    return NAMED[request.param]


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(workload)["spec"]["containers"]
    return dict(container)


def settings_map() -> dict[str, str]:
    (found,) = of_kind("ConfigMap")
    return dict(found["data"])


def test_every_file_belongs_to_a_kustomization_but_for_the_template_of_secrets() -> None:
    for folder in ("base", "keda"):
        listed = yaml.safe_load((MANIFESTS / folder / "kustomization.yaml").read_text())["resources"]
        there = {path.name for path in (MANIFESTS / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert {name for name in listed if name != "../base"} == there - {"secret.example.yaml"}


def test_every_manifest_names_its_kind_and_no_two_are_the_same() -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests()]

    assert len(set(names)) == len(names) >= 16
    assert all("/" in manifest["apiVersion"] or manifest["apiVersion"] == "v1" for manifest in manifests())


def test_the_template_of_secrets_holds_no_value() -> None:
    secrets = of_kind("Secret")

    assert {value for secret in secrets for value in secret["stringData"].values()} == {""}
    names = {name for secret in secrets for name in secret["stringData"] if not name.endswith(".pem")}
    assert names <= known_settings()


def test_every_pod_runs_as_the_user_of_the_image(workload: dict[str, Any]) -> None:
    assert pod_of(workload)["spec"]["securityContext"]["runAsUser"] == 10001


def test_every_container_says_what_it_needs_and_how_much_memory_it_may_take(workload: dict[str, Any]) -> None:
    resources = container_of(workload)["resources"]

    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_probes_ask_the_port_that_the_settings_name(name: str) -> None:
    container = container_of(NAMED[name])
    component = name.partition("headgate-")[2]
    live, ready = ("/health/live", "/health/ready") if component == "dashboard" else ("/live", "/ready")
    variable = {"worker": "METRICS", "retrain": "RETRAIN_METRICS", "dashboard": "DASHBOARD"}[component]

    (port,) = container["ports"]
    assert str(port["containerPort"]) == settings_map()[f"HEADGATE_{variable}_PORT"]
    assert container["livenessProbe"]["httpGet"] == {"path": live, "port": port["name"]}
    assert container["startupProbe"]["httpGet"] == {"path": live, "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": ready, "port": port["name"]}
    assert pod_of(NAMED[name])["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_selectors_find_the_pods_that_they_mean(name: str) -> None:
    labels = pod_of(NAMED[name])["metadata"]["labels"]
    assert NAMED[name]["spec"]["selector"]["matchLabels"] == labels

    (service,) = [one for one in of_kind("Service") if one["metadata"]["name"] == NAMED[name]["metadata"]["name"]]
    assert service["spec"]["selector"] == labels
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == container_of(NAMED[name])["ports"][0]["name"]


def test_budgets_and_policies_select_pods_that_there_are() -> None:
    pods = [pod_of(workload)["metadata"]["labels"] for workload in workloads()]
    selectors = [budget["spec"]["selector"]["matchLabels"] for budget in of_kind("PodDisruptionBudget")]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind("NetworkPolicy")]

    assert len(selectors) == 4
    assert all(any(wanted.items() <= pod.items() for pod in pods) for wanted in selectors)
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in of_kind("PodDisruptionBudget"))


def test_a_workers_name_is_its_pods_and_stays() -> None:
    worker = NAMED["StatefulSet/headgate-worker"]

    assert container_of(worker)["env"] == [
        {"name": "HEADGATE_WORKER_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    ]
    assert worker["spec"]["serviceName"] in {service["metadata"]["name"] for service in of_kind("Service")}


def test_every_variable_is_a_setting_and_models_and_state_lie_on_the_shared_claim(workload: dict[str, Any]) -> None:
    container, volumes = container_of(workload), pod_of(workload)["spec"]["volumes"]

    assert set(settings_map()) | {entry["name"] for entry in container.get("env", [])} <= known_settings()
    paths = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "shared"}
    assert paths == {settings_map()["HEADGATE_MODELS"], settings_map()["HEADGATE_STATE"]}
    (claim,) = of_kind("PersistentVolumeClaim")
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in volumes
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_what_pods_take_their_environment_from_exists(workload: dict[str, Any]) -> None:
    there = {(one["kind"], one["metadata"]["name"]) for one in of_kind("ConfigMap", "Secret")}
    for source in container_of(workload)["envFrom"]:
        ((kind, reference),) = source.items()
        assert ({"configMapRef": "ConfigMap"}[kind], reference["name"]) in there, "secrets come as files"


def test_every_secret_is_a_file_that_the_pods_group_alone_may_read(workload: dict[str, Any]) -> None:
    container, pod = container_of(workload), pod_of(workload)["spec"]
    secrets = {one["metadata"]["name"]: one["stringData"] for one in of_kind("Secret")}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    files = set()
    for volume in pod["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440
            assert mounts[volume["name"]]["readOnly"] is True
            folder = mounts[volume["name"]]["mountPath"]
            files |= {f"{folder}/{name}" for name in secrets[volume["secret"]["secretName"]]}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    own = {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
    named = {value for name, value in (settings_map() | own).items() if name.endswith("_FILE") and value}
    assert named <= files
    assert any(name.endswith("/HEADGATE_DATABASE") for name in named)


def test_what_changes_the_schema_has_a_user_of_its_own() -> None:
    with_migrator = {
        name
        for name, workload in NAMED.items()
        for volume in pod_of(workload)["spec"]["volumes"]
        if volume.get("secret", {}).get("secretName") == "headgate-migrator"
    }

    assert with_migrator == {"Job/headgate-migrate", "CronJob/headgate-prune"}


def test_every_command_exists_with_its_options(workload: dict[str, Any]) -> None:
    container = container_of(workload)
    commands = list(in_shell(container["args"][0])) if "command" in container else [container["args"]]

    assert commands
    for arguments in commands:
        check_command(arguments)


def test_no_more_workers_than_the_topic_has_partitions() -> None:
    (scaled,) = of_kind("ScaledObject")
    (script,) = container_of(NAMED["Job/headgate-migrate"])["args"]
    (create,) = [arguments for arguments in in_shell(script) if arguments[0] == "topics"]
    partitions = int(create[create.index("--partitions") + 1])

    assert scaled["spec"]["maxReplicaCount"] == partitions
    target = scaled["spec"]["scaleTargetRef"]
    assert f"{target['kind']}/{target['name']}" in NAMED
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["topic"] == "transactions"
    assert trigger["metadata"]["bootstrapServers"] == settings_map()["HEADGATE_KAFKA"]


def test_kafka_and_the_servers_of_metrics_are_let_through() -> None:
    policy = next(one for one in of_kind("NetworkPolicy") if one["metadata"]["name"] == "headgate")
    (incoming,), (outgoing,) = policy["spec"]["ingress"], policy["spec"]["egress"]
    served = {int(settings_map()[f"HEADGATE_{name}_PORT"]) for name in ("METRICS", "RETRAIN_METRICS", "DASHBOARD")}

    assert {port["port"] for port in incoming["ports"]} == served
    assert int(settings_map()["HEADGATE_KAFKA"].rpartition(":")[2]) in {port["port"] for port in outgoing["ports"]}
