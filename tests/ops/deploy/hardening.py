"""What a container may not be without: decisions on parsed files, for whatever services and pods there are."""

from collections.abc import Iterator, Mapping
from typing import Any

#: What a service of Compose must not ask for: each takes a protection away.
COMPOSE_FORBIDDEN = {
    *("privileged", "cap_add", "network_mode", "pid", "ipc", "userns_mode", "uts", "devices", "device_cgroup_rules"),
    *("volumes_from", "cgroup", "cgroup_parent", "security_opt_add", "group_add", "use_api_socket"),
}
#: Of a pod.
POD_FORBIDDEN = ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace", "ephemeralContainers")


def compose_weaknesses(service: Mapping[str, Any]) -> Iterator[str]:
    """What a service of docker-compose.yml lacks, or has and should not."""
    if service.get("read_only") is not True:
        yield "its root file system can be written"
    if service.get("cap_drop") != ["ALL"]:
        yield "it keeps capabilities"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "it can gain privileges, or has another security option"
    user = str(service.get("user", "")).partition(":")[0]
    if not user.isdigit() or int(user) == 0:
        yield "it runs as root, or as nobody knows whom"
    yield from (f"it asks for {name}" for name in sorted(COMPOSE_FORBIDDEN & set(service)))
    for volume in service.get("volumes", ()):
        source, _, rest = str(volume).partition(":")
        if source.startswith("/"):
            yield f"it mounts {source} of the host"
        elif source.startswith(".") and not rest.endswith(":ro"):
            yield f"it may write {source} of the host"


def pod_weaknesses(spec: Mapping[str, Any]) -> Iterator[str]:
    """What a pod lacks, or one of its containers, those that run before it included."""
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "it may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "it has every system call"
    if spec.get("automountServiceAccountToken") is not False:
        yield "it holds a token of the cluster"
    yield from (f"it asks for {name}" for name in POD_FORBIDDEN if name in spec)
    yield from ("it mounts a folder of the node" for volume in spec.get("volumes", ()) if "hostPath" in volume)
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        yield from (f"{container['name']}: {weakness}" for weakness in container_weaknesses(container))


def container_weaknesses(container: Mapping[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "it can gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "it keeps capabilities, or gets some"
    if context.get("privileged") or context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield "it may run as root"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "it takes a port of the node"
