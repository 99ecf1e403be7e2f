"""What every manifest here has to keep, beyond the schemas of Kubernetes. Each function yields the faults it finds."""

import re

ADMIN_PORT = 9464
PROBES = {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def faults(documents):
    """All faults of what is applied together."""
    workloads = [document for document in documents if document["kind"] in ("Deployment", "StatefulSet")]
    if not workloads:
        yield "there is no Deployment or StatefulSet"
    for workload in workloads:
        yield from of_workload(workload["spec"])
    for document in documents:
        if document["kind"] == "PodMonitor":
            yield from of_monitor(document["spec"], workloads)
        if document["kind"] == "NetworkPolicy":
            yield from of_policy(document["spec"], workloads)


def is_member(container):
    """Whether it is a member of a cluster, with a name to itself."""
    environment = {variable["name"]: variable for variable in container.get("env", [])}
    field = environment.get("PONTOON_CLUSTER__NAME", {}).get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    enabled = environment.get("PONTOON_CLUSTER__ENABLED", {}).get("value")
    return enabled == "true" and field == "metadata.name"


def of_workload(spec):
    pod = spec["template"]["spec"]
    alone = spec.get("replicas") == 1 and spec.get("strategy") == {"type": "Recreate"}
    if not alone and not all(is_member(container) for container in pod["containers"]):
        yield "two daemons with the same instance could run at a time"
    if not selects(spec["selector"], spec["template"]):
        yield "the Deployment does not select its own pods"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token for Kubernetes"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "the pod shares what belongs to the node"
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") != 65532:
        yield "the pod does not run as 65532"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the pod has no seccomp profile"
    volumes = {volume["name"]: set(volume) - {"name"} for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"]: set() for claim in spec.get("volumeClaimTemplates", [])}
    for name, kinds in volumes.items():
        if not kinds <= {"configMap", "secret", "emptyDir"}:
            yield f"volume {name} is of a kind that a restricted pod may not have"
    for container in pod.get("initContainers", []):
        if container.get("restartPolicy") != "Always":
            yield f"{container['name']} is not a sidecar: the application would wait for it to end"
    containers = containers_of(pod)
    if [container["name"] for container in containers].count("pontoon") != 1:
        yield "there is not one container named pontoon"
    for container in containers:
        yield from (f"container {container['name']}: {fault}" for fault in of_container(container, volumes))


def of_container(container, volumes):
    tag = re.fullmatch(r"[^@]+:([^:/]+)", container["image"])
    if not tag or tag[1] == "latest":
        yield f"image {container['image']} names no release"
    resources = container.get("resources", {})
    for key in ("requests.cpu", "requests.memory", "limits.memory"):
        part, what = key.split(".")
        if what not in resources.get(part, {}):
            yield f"resources.{key} is missing"
    context = container.get("securityContext", {})
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield "may get more rights than it starts with"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"
    if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(context):
        yield "overrides the pod's security context"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"mounts {mount['name']}, which is not a volume"
    names = [variable["name"] for variable in container.get("env", [])]
    if len(names) != len(set(names)):
        yield "has a variable twice"
    if container["name"] == "pontoon":
        yield from of_daemon(container)


def of_daemon(container):
    if container.get("ports") != [{"name": "admin", "containerPort": ADMIN_PORT}]:
        yield "does not name its admin port"
    listen = next((v.get("value") for v in container.get("env", []) if v["name"] == "PONTOON_ADMIN__LISTEN"), None)
    if listen not in (f"0.0.0.0:{ADMIN_PORT}", f"[::]:{ADMIN_PORT}"):
        yield f"the kubelet cannot reach the admin endpoint at {listen}"
    for probe, path in PROBES.items():
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "admin"}:
            yield f"{probe} does not ask {path}"


def of_monitor(spec, workloads):
    pods = [workload["spec"]["template"] for workload in workloads if selects(spec["selector"], workload["spec"]["template"])]
    if not pods:
        yield "the PodMonitor selects no pod"
    for endpoint in spec["podMetricsEndpoints"]:
        for pod in pods:
            ports = [port["name"] for container in containers_of(pod["spec"]) for port in container.get("ports", [])]
            if endpoint["port"] not in ports or endpoint["path"] != "/metrics":
                yield "the PodMonitor scrapes where there are no metrics"


def of_policy(spec, workloads):
    if not any(selects({"matchLabels": spec["podSelector"]["matchLabels"]}, w["spec"]["template"]) for w in workloads):
        yield "the NetworkPolicy selects no pod"
    if spec["policyTypes"] != ["Ingress", "Egress"]:
        yield "the NetworkPolicy leaves a direction open"
    for direction, peers, wanted in (
        ("ingress", "from", {(ADMIN_PORT, "TCP")}),
        ("egress", "to", {(53, "UDP"), (53, "TCP"), (443, "TCP")}),
    ):
        ports = {(port["port"], port["protocol"]) for rule in spec[direction] for port in rule["ports"]}
        if not wanted <= ports:
            yield f"the NetworkPolicy has no {direction} for {sorted(wanted - ports)}"
        if not all(rule.get(peers) for rule in spec[direction]):
            yield f"the NetworkPolicy has {direction} for every peer"


def selects(selector, template):
    wanted = selector["matchLabels"].items()
    return wanted <= template["metadata"]["labels"].items()


def containers_of(pod):
    return pod.get("initContainers", []) + pod["containers"]
