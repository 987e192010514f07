"""A namespace of a real cluster, made as k8s/ makes it and removed again; kubectl does the work, as an administrator would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
GID = 10001


@dataclass(frozen=True)
class Settings:
    """What tests/cluster/README.md describes."""

    kubeconfig: str
    image: str
    namespace: str
    storage_class: str | None
    access_mode: str
    host_path: str | None
    prepare: bool
    keep: bool
    patience: int  # seconds that a start may take

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Settings:
        return cls(
            kubeconfig=env.get("KUBECONFIG") or str(Path(env.get("HOME", "/root"), ".kube", "config")),
            image=env.get("DPO_TEST_IMAGE", ""),
            namespace=env.get("DPO_TEST_NAMESPACE") or f"dpo-test-{os.urandom(2).hex()}",
            storage_class=env.get("DPO_TEST_STORAGE_CLASS"),
            access_mode=env.get("DPO_TEST_ACCESS_MODE", "ReadWriteMany"),
            host_path=env.get("DPO_TEST_HOST_PATH"),
            prepare=env.get("DPO_TEST_PREPARE") == "1",
            keep=env.get("DPO_TEST_KEEP") == "1",
            patience=int(env.get("DPO_TEST_PATIENCE", "300")),
        )


@dataclass
class Place:
    """``folder`` is for files of this machine: the kustomization, and the kubeconfig of the one who submits."""

    settings: Settings
    folder: Path
    kubectl_path: str = field(default_factory=lambda: _kubectl())

    @property
    def namespace(self) -> str:
        return self.settings.namespace

    def fill(self) -> None:
        """What nobody has set, from the cluster's nodes: an image of ours that one has, and on a single node a folder for the
        claims, as the usual StorageClasses of kind and k3s give no volume to two pods of a run.
        """
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        if not self.settings.image:
            found = own_image(nodes)
            assert found is not None, "no node has an image of `launcher build --variant cpu`: see tests/cluster/README.md"
            self.settings = replace(self.settings, image=found)
        if len(nodes) == 1 and self.settings.host_path is None and self.settings.storage_class is None:
            self.settings = replace(self.settings, host_path="/var/lib/dpo-test", prepare=True)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """What kubectl prints; raises AssertionError with its words if it fails."""
        command = [self.kubectl_path, "--kubeconfig", self.settings.kubeconfig, *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout

    def get(self, *args: str) -> Any:
        return json.loads(self.kubectl("-n", self.namespace, "get", *args, "-o", "json"))

    def make(self) -> None:
        """Everything that k8s/ has, in this namespace, and a reader that is ready."""
        patience = self.settings.patience
        if self.settings.prepare:
            self._prepare()
        self.kubectl("apply", "-f", "-", stdin=self.manifests())
        with self._explained(self.namespace):
            ready = ("rollout", "status", "deployment/dpo-tensorboard", f"--timeout={patience}s")
            self.kubectl("-n", self.namespace, *ready, timeout=patience + 30)

    def manifests(self) -> str:
        """The base of k8s/ with the patches that these settings ask for."""
        folder = self.folder / "kustomization"
        folder.mkdir(exist_ok=True)
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(self._kustomization(folder)), encoding="utf-8")
        if self.settings.host_path is not None:
            volumes = yaml.safe_dump_all([self._volume(name) for name in ("runs", "cache")])
            (folder / "volumes.yaml").write_text(volumes, encoding="utf-8")
        done = subprocess.run(
            [self.kubectl_path, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remove(self) -> None:
        """Everything but what runs have left in a folder of a node."""
        if self.settings.keep:
            return
        quiet = {"check": False, "timeout": 300.0}
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=240s", **quiet)  # type: ignore[arg-type]
        if self.settings.host_path is not None:
            names = [f"{self.namespace}-{name}" for name in ("runs", "cache")]
            self.kubectl("delete", "persistentvolume", *names, "--ignore-not-found", "--timeout=60s", **quiet)  # type: ignore[arg-type]

    def submitter(self) -> Path:
        """The kubeconfig of the ServiceAccount that k8s/ makes, so that its Role is tried; the administrator's where the cluster
        gives no tokens."""
        config = json.loads(self.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
        config["contexts"][0]["context"]["namespace"] = self.namespace
        token = self.kubectl("-n", self.namespace, "create", "token", "dpo-launcher", "--duration=2h", check=False).strip()
        if token and self._may("list", "pods", token):
            config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
        file = self.folder / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config), encoding="utf-8")
        return file

    def pods(self, run: str) -> list[dict[str, Any]]:
        return list(self.get("pods", "-l", f"dpo-launcher/run={run}")["items"])

    def in_reader(self, *command: str) -> str:
        return self.kubectl("-n", self.namespace, "exec", "deployment/dpo-tensorboard", "--", *command)

    def largest_node(self) -> tuple[float, int]:
        """(CPUs that a node gives to pods at most, the number of nodes)."""
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return max(_cpus(node["status"]["allocatable"]["cpu"]) for node in nodes), len(nodes)

    def described(self, namespace: str | None = None) -> str:
        """What a person looks at when something has failed."""
        wide = ("get", "pods,jobs,persistentvolumeclaims", "-o", "wide")
        events = ("get", "events", "--sort-by=.metadata.creationTimestamp")
        return "\n".join(self.kubectl("-n", namespace or self.namespace, *what, check=False) for what in (wide, events))

    @contextmanager
    def _explained(self, namespace: str) -> Iterator[None]:
        """Adds to a failure what the namespace looks like, which is removed before anybody could."""
        try:
            yield
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.described(namespace)}") from None

    def _may(self, verb: str, resource: str, token: str) -> bool:
        # Without its own credentials: a client certificate of the administrator would win over the token.
        bare = json.loads(self.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
        bare["users"] = [{"name": bare["contexts"][0]["context"]["user"], "user": {"token": token}}]
        file = self.folder / "kubeconfig-of-token"
        file.write_text(json.dumps(bare), encoding="utf-8")
        file.chmod(0o600)
        command = [self.kubectl_path, "--kubeconfig", str(file), "-n", self.namespace, "auth", "can-i", verb, resource]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    def _kustomization(self, folder: Path) -> dict[str, Any]:
        resources = [os.path.relpath(REPOSITORY / "k8s" / "base", folder.resolve())]
        patches: list[dict[str, Any]] = []
        for name in ("runs", "cache"):
            change = [{"op": "replace", "path": "/spec/accessModes", "value": [self.settings.access_mode]},
                      {"op": "replace", "path": "/spec/resources/requests/storage", "value": "5Gi"}]  # fmt: skip
            if self.settings.host_path is not None:
                change += [{"op": "add", "path": "/spec/storageClassName", "value": ""},
                           {"op": "add", "path": "/spec/volumeName", "value": f"{self.namespace}-{name}"}]  # fmt: skip
            elif self.settings.storage_class is not None:
                change += [{"op": "add", "path": "/spec/storageClassName", "value": self.settings.storage_class}]
            target = {"kind": "PersistentVolumeClaim", "name": f"dpo-{name}"}
            patches.append({"target": target, "patch": yaml.safe_dump(change)})
        return {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": resources + (["volumes.yaml"] if self.settings.host_path is not None else []),
            "images": [image_override(self.settings.image)],
            "patches": patches,
        }

    def _volume(self, name: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.namespace}-{name}"},
            "spec": {
                "capacity": {"storage": "5Gi"},
                "accessModes": [self.settings.access_mode],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": self.namespace, "name": f"dpo-{name}"},
                "hostPath": {"path": f"{self.settings.host_path}/{name}", "type": "Directory"},
            },
        }

    def _prepare(self) -> None:
        """Makes the folders of the volumes writable, by a pod that is root, in a namespace that allows it for a moment."""
        made = self.preparation()
        namespace, patience = made[0]["metadata"]["name"], self.settings.patience
        try:
            self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(made))
            done = ("wait", "job/prepare", "--for=condition=Complete", f"--timeout={patience}s")
            with self._explained(namespace):
                self.kubectl("-n", namespace, *done, timeout=patience + 30)
        finally:
            self.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s", check=False, timeout=150)

    def preparation(self) -> list[dict[str, Any]]:
        """A Job, not a pod: that would be refused as long as its new namespace has no ServiceAccount."""
        namespace = f"{self.namespace}-prepare"
        container = {
            "name": "prepare",
            "image": self.settings.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["install", "-d", "-m", "2770", "-o", str(GID), "-g", str(GID), "/host/runs", "/host/cache"],
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        }
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False},
            "containers": [container],
            "volumes": [{"name": "host", "hostPath": {"path": self.settings.host_path, "type": "DirectoryOrCreate"}}],
        }
        labels = {"pod-security.kubernetes.io/enforce": "privileged"}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "prepare", "namespace": namespace},
                "spec": {"template": {"spec": pod}},
            },
        ]


def own_image(nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """The first image of ours that a node has, one for the CPU before others."""
    names = [name for node in nodes for one in node["status"].get("images") or [] for name in one.get("names") or []]
    ours = [name for name in names if re.search(r"(^|/)dpo-launcher:[\w.-]+$", name)]
    return next((name for name in ours if ":cpu" in name), next(iter(ours), None))


def image_override(reference: str) -> dict[str, str]:
    """``reference`` as kustomize's `images` has it."""
    name, _, digest = reference.partition("@")
    if digest:
        return {"name": "dpo-launcher", "newName": name, "digest": digest}
    found = re.fullmatch(r"(.+?)(?::([\w.-]+))?", name)
    assert found is not None
    return {"name": "dpo-launcher", "newName": found[1], "newTag": found[2] or "latest"}


def _cpus(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _kubectl() -> str:
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.is_file() else shutil.which("kubectl") or "kubectl"
