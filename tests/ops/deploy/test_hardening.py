"""Every container that is deployed is as restricted as it can be, new ones too; the lack of any protection is seen."""

import re
from copy import deepcopy
from typing import Any

import pytest

from tests.ops.deploy.artefacts import DOCKERFILE, pod_of, services, workloads
from tests.ops.deploy.hardening import compose_weaknesses, pod_weaknesses

PODS = {f"{manifest['kind']}/{manifest['metadata']['name']}": pod_of(manifest)["spec"] for manifest in workloads()}


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_of_compose_has_no_weakness(name: str) -> None:
    assert list(compose_weaknesses(services()[name])) == []


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_weakness(name: str) -> None:
    assert list(pod_weaknesses(PODS[name])) == []


def test_a_new_service_without_any_protection_has_every_weakness() -> None:
    found = list(compose_weaknesses({"image": "new:1.0"}))
    assert found == [
        "its root file system can be written",
        "it keeps capabilities",
        "it can gain privileges, or has another security option",
        "it runs as root, or as nobody knows whom",
    ]
    pod = list(pod_weaknesses({"containers": [{"name": "new", "image": "new:1.0"}]}))
    assert len(pod) == 6


@pytest.mark.parametrize(
    ("change", "weakness"),
    [
        ({"read_only": False}, "its root file system can be written"),
        ({"cap_drop": ["NET_RAW"]}, "it keeps capabilities"),
        ({"security_opt": []}, "it can gain privileges, or has another security option"),
        (
            {"security_opt": ["no-new-privileges:true", "seccomp:unconfined"]},
            "it can gain privileges, or has another security option",
        ),
        ({"user": "0:0"}, "it runs as root, or as nobody knows whom"),
        ({"user": "root"}, "it runs as root, or as nobody knows whom"),
        ({"privileged": True}, "it asks for privileged"),
        ({"cap_add": ["SYS_ADMIN"]}, "it asks for cap_add"),
        ({"network_mode": "host"}, "it asks for network_mode"),
        ({"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]}, "it mounts /var/run/docker.sock of the host"),
        ({"volumes": ["./ops:/ops"]}, "it may write ./ops of the host"),
    ],
)
def test_a_service_of_compose_that_loses_a_protection_is_found(change: dict[str, Any], weakness: str) -> None:
    assert list(compose_weaknesses(services()["worker"] | change)) == [weakness]


@pytest.mark.parametrize(
    ("path", "value", "weakness"),
    [
        ("securityContext.runAsNonRoot", False, "it may run as root"),
        ("securityContext.runAsUser", 0, "it may run as root"),
        ("securityContext.seccompProfile", {"type": "Unconfined"}, "it has every system call"),
        ("automountServiceAccountToken", True, "it holds a token of the cluster"),
        ("hostNetwork", True, "it asks for hostNetwork"),
        ("volumes", [{"name": "node", "hostPath": {"path": "/"}}], "it mounts a folder of the node"),
        ("containers.0.securityContext.allowPrivilegeEscalation", True, "worker: it can gain privileges"),
        ("containers.0.securityContext.readOnlyRootFilesystem", False, "worker: its root file system can be written"),
        ("containers.0.securityContext.capabilities", {"drop": []}, "worker: it keeps capabilities, or gets some"),
        (
            "containers.0.securityContext.capabilities",
            {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "worker: it keeps capabilities, or gets some",
        ),
        ("containers.0.securityContext.privileged", True, "worker: it may run as root"),
        ("containers.0.ports", [{"containerPort": 1, "hostPort": 1}], "worker: it takes a port of the node"),
    ],
)
def test_a_pod_that_loses_a_protection_is_found(path: str, value: Any, weakness: str) -> None:
    spec = deepcopy(PODS["StatefulSet/headgate-worker"])
    *outer, last = path.split(".")
    place: Any = spec
    for name in outer:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    assert list(pod_weaknesses(spec)) == [weakness]


def test_a_container_that_runs_before_the_others_is_looked_at_too() -> None:
    spec = PODS["StatefulSet/headgate-worker"] | {"initContainers": [{"name": "first", "image": "new:1.0"}]}
    assert all(weakness.startswith("first: ") for weakness in pod_weaknesses(spec))
    assert len(list(pod_weaknesses(spec))) == 3


def test_only_what_trains_may_sign_models() -> None:
    signing = {name for name, spec in PODS.items() if "headgate-signing" in str(spec)}
    assert signing == {"Deployment/headgate-retrain"}
    given = {name for name, service in services().items() if ".env.signing" in str(service.get("env_file"))}
    assert given == {"retrain", "retrain-gpu", "train"}


def test_the_image_writes_nothing_as_root_after_it_is_built() -> None:
    """All that is its user's is the two folders that volumes take the place of."""
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    owned = re.findall(r"--owner=headgate --group=headgate ((?:/\S+\s*\\?\s*)+)", last)
    assert {path for each in owned for path in re.findall(r"/\S+", each)} == {
        "/var/lib/headgate",
        "/var/lib/headgate/models",
        "/var/lib/headgate/state",
    }
    assert "--chown" not in last
    assert "chmod" not in last
