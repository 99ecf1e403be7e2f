"""The daemon's side of a manifest: its configuration is taken out and given to `pontoon check`, in its own environment."""

import pathlib
import re
import tempfile
import tomllib

from rules import containers_of
from run import attempt, run

# What the daemon has where nothing is set.
DRAIN = "20s"


def check(pontoon, documents):
    """Yields what is wrong with the container `pontoon`: its release, its configuration, and the time it has to stop."""
    workload = next(document for document in documents if document["kind"] in ("Deployment", "StatefulSet"))
    pod = workload["spec"]["template"]["spec"]
    container = next(container for container in containers_of(pod) if container["name"] == "pontoon")
    release = run(pontoon, "--version").split()[-1]
    if container["image"].startswith("pontoon:") and container["image"] != f"pontoon:{release}":
        yield f"{container['image']} is not the release {release}"

    text, secrets = configuration(documents, pod, container)
    # What comes from elsewhere has some value.
    environment = {variable["name"]: variable.get("value", "from-a-Secret") for variable in container.get("env", [])}

    drain = environment.get("PONTOON_SHUTDOWN__TIMEOUT", tomllib.loads(text).get("shutdown", {}).get("timeout", DRAIN))
    if pod.get("terminationGracePeriodSeconds", 30) <= seconds(drain):
        yield f"the pod is killed before a drain of {drain} is over"

    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(sorted(set(re.findall(r'^[^#\n]*\{ file = "([^"]+)" \}', text, re.M)))):
            volume = secrets.get(str(pathlib.PurePath(path).parent))
            if not volume:
                yield f"{path} is in no Secret that is mounted"
                return
            stand_in = pathlib.Path(folder, str(number))
            stand_in.write_text("a secret")
            stand_in.chmod(volume.get("defaultMode", 0o644))
            text = text.replace(f'"{path}"', f'"{stand_in}"')
        file = pathlib.Path(folder, "pontoon.toml")
        file.write_text(text)
        code, _, said = attempt(pontoon, "--config", file, "check", env=environment, cwd=folder)
        # A chart that was just installed bridges nothing yet.
        complaints = [line for line in said.splitlines() if "no instance is configured" not in line]
        if code or complaints:
            yield f"`pontoon check` exits with {code}: " + "; ".join(complaints)


def configuration(documents, pod, container):
    """The text of the file that --config names, and the Secrets by where they are mounted."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    # A claim of a StatefulSet is not among them.
    mounts = {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in container["volumeMounts"]}
    path = pathlib.PurePath(container["args"][container["args"].index("--config") + 1])
    wanted = mounts[str(path.parent)]["configMap"]["name"]
    data = next(d["data"] for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == wanted)
    return data[path.name], {mount: volume["secret"] for mount, volume in mounts.items() if "secret" in volume}


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
