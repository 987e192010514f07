"""Plays the kubelet: runs the container of a rendered manifest with a Docker engine, with all that the manifest says of it."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Kubelet:
    """``folder`` holds the claims by their names, and the volumes; ``secrets``: name of a Secret -> its files.

    ``gives``: the uid, fsGroup and supplemental group that a namespace of OpenShift gives pods that name none; their group is 0.
    """

    engine: Any
    folder: Path
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gives: int | None = None

    def claim(self, name: str, group: int = 10001) -> Path:
        """A volume that the group may write, as a StorageClass that heeds fsGroup makes it."""
        path = self.folder / "claims" / name
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, 0, group)
            path.chmod(0o2770)
        return path

    @contextmanager
    def started(self, manifest: str, index: int = 0, **options: Any) -> Iterator[Pod]:
        """The pod with this index of the Job in ``manifest``."""
        objects = [one for one in yaml.safe_load_all(manifest) if one is not None]
        job = next(one for one in objects if one["kind"] == "Job")
        spec = job["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert "command" not in container, "the image's entry point is to stay the first process"
        words = self.folder / f"termination-log-{len(list(self.folder.glob('termination-log-*')))}"
        words.touch()
        words.chmod(0o666)
        binds, tmpfs = self._volumes(spec, container, objects)
        binds[str(words)] = {"bind": container["terminationMessagePath"], "mode": "rw"}
        host = f"{job['metadata']['name']}-{index}"
        running = self.engine.containers.run(
            container["image"],
            [_expanded(one, {}) for one in container["args"]],
            detach=True,
            hostname=host,
            environment=_environment(container, index),
            working_dir=container["workingDir"],
            volumes=binds,
            tmpfs=tmpfs,
            **{"network_mode": "none", **options},
            **_rights(self._admitted(spec["securityContext"]), container["securityContext"]),
            **_limits(container["resources"]["limits"]),
        )
        pod = Pod(running, words)
        try:
            yield pod
        finally:
            running.remove(force=True, v=True)

    def run(self, manifest: str, **options: Any) -> Pod:
        """The pod when it has ended."""
        with self.started(manifest, **options) as pod:
            pod.wait()
            return pod

    def _volumes(self, spec: Any, container: Any, objects: list[Any]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """(folders of this machine and where they are mounted, file systems in memory)."""
        group, binds, tmpfs = self._admitted(spec["securityContext"])["fsGroup"], {}, {}
        volumes = {one["name"]: one for one in spec["volumes"]}
        for mount in container["volumeMounts"]:
            volume, path = volumes[mount["name"]], mount["mountPath"]
            if "emptyDir" in volume:
                size = volume["emptyDir"].get("sizeLimit")
                own = f",size={_bytes(size)}" if volume["emptyDir"].get("medium") == "Memory" and size else ""
                tmpfs[path] = f"exec,mode=2777,gid={group}{own}"
                continue
            if "persistentVolumeClaim" in volume:
                source = self.claim(volume["persistentVolumeClaim"]["claimName"], group)
            else:
                source = self.folder / "volumes" / mount["name"]
                _project(source, self._files(volume, objects), group, _mode(volume))
            binds[str(source)] = {"bind": path, "mode": "ro" if mount.get("readOnly") else "rw"}
        return binds, tmpfs

    def _admitted(self, security: Any) -> Any:
        """The pod's security context after the admission of a namespace that gives users."""
        if self.gives is None:
            return security
        named = {"runAsUser", "runAsGroup", "fsGroup"} & set(security)
        assert not named, f"restricted-v2 refuses {named}: not in the namespace's range"
        return {**security, "runAsUser": self.gives, "runAsGroup": 0, "fsGroup": self.gives}

    def _files(self, volume: Any, objects: list[Any]) -> dict[str, bytes]:
        if "secret" in volume:
            content = {name: text.encode() for name, text in self.secrets[volume["secret"]["secretName"]].items()}
            items = volume["secret"].get("items")
        else:
            wanted = volume["configMap"]["name"]
            found = next(one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == wanted)
            content = {name: text.encode() for name, text in found.get("data", {}).items()}
            content |= {name: base64.b64decode(text) for name, text in found.get("binaryData", {}).items()}
            items = volume["configMap"].get("items")
        return content if items is None else {one["path"]: content[one["key"]] for one in items}


@dataclass
class Pod:
    container: Any
    words: Path
    code: int | None = None
    output: str = ""

    def wait(self, seconds: int = 600) -> int:
        self.code = int(self.container.wait(timeout=seconds)["StatusCode"])
        self.output = self.container.logs().decode()
        return self.code

    def terminate(self, grace: int) -> int:
        self.container.stop(timeout=grace)
        return self.wait()

    @property
    def last_words(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.words.read_text())
        return found


def _project(folder: Path, files: Mapping[str, bytes], group: int, mode: int) -> None:
    """Files as the kubelet mounts them: behind a link that it switches as a whole."""
    own = folder / "..2026_11_24"
    for name, content in files.items():
        file = own / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.chown(file, 0, group)
        file.chmod(mode)
        top = folder / Path(name).parts[0]
        if not top.is_symlink():
            top.symlink_to(f"..data/{Path(name).parts[0]}")
    if not (folder / "..data").is_symlink():
        (folder / "..data").symlink_to(own.name)


def _mode(volume: Any) -> int:
    return int((volume.get("secret") or volume.get("configMap")).get("defaultMode", 0o644)) | 0o040


_FIELDS = {"metadata.name": "a-pod-0-x7k2p", "spec.nodeName": "a-node"}


def _environment(container: Any, index: int) -> dict[str, str]:
    env = {"JOB_COMPLETION_INDEX": str(index)}  # which the Job's controller adds
    for one in container["env"]:
        env[one["name"]] = _expanded(one["value"], env) if "value" in one else _FIELDS[one["valueFrom"]["fieldRef"]["fieldPath"]]
    return env


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """``$(NAME)`` is the variable's value where there is one, ``$$`` a dollar."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda found: "$" if found[0] == "$$" else env.get(found[1], found[0]), text)


def _rights(pod: Any, container: Any) -> dict[str, Any]:
    assert container["allowPrivilegeEscalation"] is False
    return {
        "user": f"{pod['runAsUser']}:{pod['runAsGroup']}",
        "group_add": [pod["fsGroup"]],
        "read_only": container["readOnlyRootFilesystem"],
        "cap_drop": container["capabilities"]["drop"],
        "security_opt": ["no-new-privileges"],
    }


def _limits(limits: Mapping[str, str]) -> dict[str, Any]:
    cpu = limits["cpu"]
    cores = float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
    return {"mem_limit": _bytes(limits["memory"]), "nano_cpus": round(min(cores, os.cpu_count() or 1) * 1e9)}


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]i)?", quantity)
    assert found is not None, quantity
    return int(found[1]) * 1024 ** (" KMGT".index(found[2][0]) if found[2] else 0)
