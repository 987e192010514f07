"""The edge to an API server: the real client against a server over HTTP that fails as real ones do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.api import channels
from launcher.backends.kubernetes.api.cluster import ApiError, Cluster, ClusterError, ClusterRefused, ExecError
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.certificates import served

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def connected(api: ClusterApi) -> Cluster:
    return Cluster.connect({"KUBECONFIG": str(api.kubeconfig)})


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "b"}}


def pod(api: ClusterApi, name: str = "one") -> None:
    api.objects.put({"kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "trainer", "image": "x"}]}})
    controllers.running(api, name)


def failure(act: Callable[[], Any]) -> str:
    with pytest.raises(ClusterError) as caught:
        act()
    return str(caught.value)


@pytest.fixture
def cluster(cluster_api: ClusterApi) -> Cluster:
    found = connected(cluster_api)
    found.pauses = (0.01, 0.05, 0.5, 1.0)
    return found


def test_objects_are_created_read_changed_and_deleted(cluster: Cluster, cluster_api: ClusterApi) -> None:
    made = cluster.create(MAPS, config_map("one"))
    cluster.patch(f"{MAPS}/one", {"metadata": {"labels": {"x": "1"}}, "data": {"a": None, "c": "d"}})
    found = cluster.get(f"{MAPS}/one")
    assert (found["data"], found["metadata"]["labels"], found["metadata"]["uid"]) == (
        {"c": "d"},
        {"x": "1"},
        made["metadata"]["uid"],
    )
    cluster.delete(f"{MAPS}/one")
    cluster.delete(f"{MAPS}/one")
    assert cluster_api.objects.names("configmaps") == []


def test_a_trial_checks_all_and_keeps_nothing(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.create(MAPS, config_map("one"), dry_run=True)
    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "dada"') as caught:
        cluster.create(MAPS, {**config_map("one"), "dada": {}}, dry_run=True)
    assert (caught.value.status, cluster_api.objects.names("configmaps")) == (400, [])


def test_a_list_comes_in_pages(cluster: Cluster, cluster_api: ClusterApi) -> None:
    for number in range(7):
        cluster.create(MAPS, config_map(f"m{number}", odd=str(number % 2)))
    assert [one["metadata"]["name"] for one in cluster.list(MAPS, "odd=1", limit=2)] == ["m1", "m3", "m5"]
    assert len(cluster_api.asked("GET", MAPS)) == 2


def test_a_list_that_is_forgotten_half_way_is_begun_again_and_tells_nothing_twice(
    cluster: Cluster, cluster_api: ClusterApi
) -> None:
    for number in range(5):
        cluster.create(MAPS, config_map(f"m{number}"))
    listing = cluster.list(MAPS, limit=2)
    first = [next(listing)["metadata"]["name"] for _ in range(2)]
    cluster_api.objects.put(config_map("m9"))
    cluster_api.objects.forget()
    assert [*first, *(one["metadata"]["name"] for one in listing)] == ["m0", "m1", "m2", "m3", "m4", "m9"]


def test_a_watch_tells_what_happens_until_it_ends(cluster: Cluster, cluster_api: ClusterApi) -> None:
    version = cluster.get(MAPS)["metadata"]["resourceVersion"]
    seen: list[tuple[str, str | None]] = []

    def look() -> None:
        for event in cluster.watch(MAPS, version, selector="mine=1"):
            seen.append((event["type"], event["object"]["metadata"].get("name")))
            if event["type"] == "DELETED":
                return

    looking = threading.Thread(target=look)
    looking.start()
    cluster.create(MAPS, config_map("other"))
    cluster.create(MAPS, config_map("one", mine="1"))
    cluster.patch(f"{MAPS}/one", {"data": {"a": "c"}})
    cluster.patch(f"{MAPS}/one", {"metadata": {"labels": {"mine": "2"}}})
    looking.join(120)
    assert seen == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


def test_a_version_that_is_forgotten_cannot_be_watched(cluster: Cluster, cluster_api: ClusterApi) -> None:
    version = cluster.get(MAPS)["metadata"]["resourceVersion"]
    cluster.create(MAPS, config_map("one"))
    cluster_api.objects.forget()
    with pytest.raises(ApiError) as caught:
        list(cluster.watch(MAPS, version))
    assert caught.value.status == 410


def test_a_watch_ends_when_its_connection_does_and_half_a_line_is_no_event(cluster: Cluster, cluster_api: ClusterApi) -> None:
    version = cluster.get(MAPS)["metadata"]["resourceVersion"]
    cluster.create(MAPS, config_map("one"))
    whole = len(b"".join(cluster.stream(MAPS, watch="true", resourceVersion=version, timeoutSeconds=0)))
    cluster_api.cut_after(whole - 10, "watch=true")
    assert list(cluster.watch(MAPS, version)) == []


@pytest.mark.parametrize("status", [429, 500, 503, 504, None])
def test_what_may_be_asked_twice_is_asked_again(status: int | None, cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.create(MAPS, config_map("one"))
    cluster_api.fail(status, "configmaps/one", times=2)
    assert cluster.get(f"{MAPS}/one")["data"] == {"a": "b"}
    cluster_api.fail(status, "configmaps/one", times=2)
    cluster.patch(f"{MAPS}/one", {"data": {"a": "c"}})
    cluster_api.fail(status, "configmaps/one", times=2)
    cluster.delete(f"{MAPS}/one")
    assert cluster_api.objects.names("configmaps") == []


def test_a_dry_run_does_not_wait_again_for_a_webhook_that_does_not_answer(cluster: Cluster, cluster_api: ClusterApi) -> None:
    words = 'Internal error occurred: failed calling webhook "mjobset.kb.io": context deadline exceeded'
    cluster_api.fail(500, "configmaps", method="POST", message=words, reason="InternalError", times=None)
    with pytest.raises(ApiError, match="failed calling webhook"):
        cluster.create(MAPS, config_map("one"), dry_run=True)
    assert len(cluster_api.asked("POST", MAPS)) == 1


def test_a_deletion_whose_answer_is_lost_is_one(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.create(MAPS, config_map("one"))
    cluster_api.lose("configmaps/one", method="DELETE")
    cluster.delete(f"{MAPS}/one")
    assert [one.method for one in cluster_api.asked("DELETE")] == ["DELETE", "DELETE"]


def test_nothing_is_created_twice(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.get("/version")
    cluster_api.lose("configmaps", method="POST")
    assert "lost the connection to" in failure(lambda: cluster.create(MAPS, config_map("one")))
    cluster_api.fail(503, "configmaps", method="POST")
    with pytest.raises(ApiError):
        cluster.create(MAPS, config_map("two"))
    assert len(cluster_api.asked("POST", MAPS)) == 2


def test_a_server_that_has_done_nothing_yet_may_be_asked_to_create_again(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster_api.fail(429, "configmaps", method="POST", headers={"Retry-After": "0"})
    cluster.create(MAPS, config_map("one"))
    assert cluster_api.objects.names("configmaps") == ["one"]


def test_a_refusal_has_the_servers_words(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster_api.deny("list", "secrets")
    with pytest.raises(ApiError) as caught:
        cluster.get("/api/v1/namespaces/default/secrets")
    assert str(caught.value) == (
        'API server: secrets is forbidden: User "dana" cannot list resource "secrets" in API group "" '
        'in the namespace "default" (403 Forbidden)\n'
        "    hint:     choose another namespace with -n, or ask the cluster's administrator for the Role in k8s/base/access.yaml"
    )
    cluster_api.fail(403, message="a policy says no", reason="Forbidden")
    with pytest.raises(ApiError) as caught:
        cluster.get("/api/v1/namespaces/default/pods")
    assert str(caught.value) == "API server: a policy says no (403 Forbidden)"


def test_a_change_that_met_another_one_is_made_again(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.create(MAPS, config_map("one"))
    words = 'Operation cannot be fulfilled on configmaps "one": the object has been modified'
    cluster_api.fail(409, "configmaps/one", times=2, message=words, reason="Conflict")
    assert cluster.patch(f"{MAPS}/one", {"data": {"a": "c"}})["data"] == {"a": "c"}


def test_a_log_ends_with_its_container(cluster: Cluster, cluster_api: ClusterApi) -> None:
    pod(cluster_api)
    log = cluster_api.log("one")
    log.write("first\nsec")
    pieces = cluster.stream(f"{PODS}/one/log", container="trainer", follow="true")
    assert next(pieces) == b"first\nsec"
    log.write("ond\n")
    controllers.terminated(cluster_api, "one", 0)
    assert b"".join(pieces) == b"ond\n"


def test_a_log_that_is_cut_ends_without_a_word(cluster: Cluster, cluster_api: ClusterApi) -> None:
    pod(cluster_api)
    cluster_api.log("one").write("first\nsecond\n")
    cluster_api.cut_after(8, "/log")
    assert b"".join(cluster.stream(f"{PODS}/one/log", follow="true")) == b"first\nse"


def test_a_command_reads_and_writes_in_a_pod(cluster: Cluster, cluster_api: ClusterApi, tmp_path: Path) -> None:
    pod(cluster_api)
    cluster_api.commands["default", "one"] = tmp_path
    big = os.urandom(3_000_000)
    command = ["sh", "-c", "cat > /tmp/there; wc -c < /tmp/there"]
    assert int(b"".join(cluster.exec("one", "trainer", command, stdin=[big]))) == len(big)
    assert (tmp_path / "tmp" / "there").read_bytes() == big
    assert b"".join(cluster.exec("one", "trainer", ["cat", "/tmp/there"])) == big


def test_a_command_that_fails_says_how(cluster: Cluster, cluster_api: ClusterApi, tmp_path: Path) -> None:
    pod(cluster_api)
    cluster_api.commands["default", "one"] = tmp_path
    with pytest.raises(ExecError, match=r"^sh in one: exit code 3: no such thing$") as caught:
        list(cluster.exec("one", "trainer", ["sh", "-c", "echo no such thing >&2; exit 3"]))
    assert (caught.value.code, caught.value.stderr) == (3, "no such thing\n")


def broken_input() -> Iterator[bytes]:
    yield b"half"
    raise ValueError("the rest is gone")


def test_a_command_whose_input_fails_ends_first(cluster: Cluster, cluster_api: ClusterApi, tmp_path: Path) -> None:
    pod(cluster_api)
    cluster_api.commands["default", "one"] = tmp_path
    command = ["sh", "-c", "cat > /tmp/there; sleep 0.2; mv /tmp/there /tmp/tidied; exit 3"]
    with pytest.raises(ValueError, match="the rest is gone"):
        list(cluster.exec("one", "trainer", command, stdin=broken_input()))
    assert (tmp_path / "tmp" / "tidied").read_bytes() == b"half"


def test_a_command_that_goes_on_without_its_input_is_left(
    cluster: Cluster, cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "_TIDY", 0.2)
    pod(cluster_api)
    cluster_api.commands["default", "one"] = tmp_path
    with pytest.raises(ValueError, match="the rest is gone"):
        list(cluster.exec("one", "trainer", ["sleep", "60"], stdin=broken_input()))


def test_a_command_whose_connection_breaks_has_not_ended(cluster: Cluster, cluster_api: ClusterApi, tmp_path: Path) -> None:
    pod(cluster_api)
    cluster_api.commands["default", "one"] = tmp_path
    running = cluster.exec("one", "trainer", ["sh", "-c", "echo begun; sleep 60"])
    assert next(running) == b"begun\n"
    cluster_api.cut("exec")
    assert "connection lost" in failure(lambda: list(running))


def test_a_command_may_be_forbidden(cluster: Cluster, cluster_api: ClusterApi, tmp_path: Path) -> None:
    pod(cluster_api)
    cluster_api.commands["default", "one"] = tmp_path
    cluster_api.deny("create", "pods/exec")
    with pytest.raises(ApiError, match='cannot create resource "pods/exec"') as caught:
        list(cluster.exec("one", "trainer", ["true"]))
    assert caught.value.status == 403


def test_a_port_of_a_pod_is_a_socket(cluster: Cluster, cluster_api: ClusterApi) -> None:
    pod(cluster_api)
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster_api.ports["default", "one", 6006] = server.getsockname()[1]
        near = cluster.forward("one", 6006)
        near.sendall(b"hello")
        far, _ = server.accept()
        assert far.recv(100) == b"hello"
        far.sendall(b"good-bye")
        far.close()
        assert near.recv(100) == b"good-bye"
        near.close()


def test_a_token_that_was_renewed_on_the_disk_is_read_again(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.get("/version")
    cluster_api.token = "the-next-token-0123456789"
    assert cluster_api.kubeconfig.is_file()
    assert cluster.get("/version")["minor"] == "36"


def test_a_token_that_has_expired(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster_api.token = "another"
    assert failure(lambda: cluster.get("/version")) == (
        f"the cluster at {cluster_api.url} (context emulator) rejects the credentials: they have expired or belong to another "
        "cluster\n    hint:     log in again as you did to get the kubeconfig (the server's message: Unauthorized)"
    )


def test_the_token_is_hidden_wherever_it_turns_up(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.get("/version")
    assert cluster_api.token not in str(ClusterError(f"a proxy says: {cluster_api.token}"))


def test_a_server_that_is_gone_is_named_at_once(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster_api.stop()
    with pytest.raises(ClusterError) as caught:
        cluster.get("/version")
    assert caught.value.exit_code == 48  # the same request may succeed later
    said = str(caught.value)
    assert said == f"cannot connect to the cluster at {cluster_api.url} (context emulator): connection refused"


def test_a_server_that_comes_back_is_waited_for(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster.pauses = (0.1,) * 600
    cluster.get("/version")
    cluster_api.stop()
    back = threading.Timer(0.3, cluster_api.start)
    back.start()
    assert cluster.get("/version")["minor"] == "36"
    back.join()


def test_a_page_that_is_no_api_server(cluster: Cluster, cluster_api: ClusterApi) -> None:
    cluster_api.fail(418, message="I am a teapot", reason="Teapot")
    with pytest.raises(ApiError, match=r"I am a teapot \(418 Teapot\)"):
        cluster.get("/version")


@pytest.mark.parametrize(
    ("host", "days", "trusts", "meaning"),
    [
        ("127.0.0.1", 1, True, None),
        ("127.0.0.1", 1, False, "unknown issuer of the certificate; set certificate-authority-data in the kubeconfig"),
        ("127.0.0.2", 1, True, "the certificate is for another host"),
        ("127.0.0.1", -1, True, "the certificate has expired"),
    ],
)
def test_certificates(host: str, days: int, trusts: bool, meaning: str | None, tmp_path: Path) -> None:
    context, authority = served(tmp_path, host=host, days=days)
    with ClusterApi(tmp_path, tls=context, authority=authority if trusts else None) as api:
        cluster = connected(api)
        if meaning is None:
            assert cluster.get("/version")["minor"] == "36"
            return
        said = failure(lambda: cluster.get("/version"))
        assert said == f"cannot connect to the cluster at {api.url} (context emulator): {meaning}"


def test_an_address_that_begins_with_https_and_a_server_that_does_not(cluster_api: ClusterApi) -> None:
    config = cluster_api.config()
    config["clusters"][0]["cluster"]["server"] = cluster_api.url.replace("http:", "https:")
    file = cluster_api.folder / "other"
    file.write_text(yaml.safe_dump(config))
    said = failure(lambda: Cluster.connect({"KUBECONFIG": str(file)}).get("/version"))
    assert said.endswith("the server speaks HTTP; start its address with http://")


def test_a_name_that_nobody_knows(cluster_api: ClusterApi) -> None:
    config = cluster_api.config()
    config["clusters"][0]["cluster"]["server"] = "https://no-such-machine.invalid:6443"
    file = cluster_api.folder / "other"
    file.write_text(yaml.safe_dump(config))
    said = failure(lambda: Cluster.connect({"KUBECONFIG": str(file)}).get("/version"))
    assert said == ("cannot connect to the cluster at https://no-such-machine.invalid:6443 (context emulator): unknown host name")


def test_no_kubeconfig(tmp_path: Path) -> None:
    assert failure(lambda: Cluster.connect({"HOME": str(tmp_path)})).startswith(
        f"no cluster: {tmp_path}/.kube/config not found\n    hint: "
    )
    assert failure(lambda: Cluster.connect({"KUBECONFIG": "/no/such/file"})) == (
        "no cluster: /no/such/file not found (set in KUBECONFIG)"
    )


def test_the_kubeconfig_of_a_home(cluster_api: ClusterApi, tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(yaml.safe_dump(cluster_api.config(namespace="team-a")))
    assert Cluster.connect({"HOME": str(tmp_path)}).namespace == "team-a"
    assert Cluster.connect({"HOME": str(tmp_path)}, "team-b").namespace == "team-b"


def test_several_files(cluster_api: ClusterApi, tmp_path: Path) -> None:
    config = cluster_api.config()
    users, rest = tmp_path / "users", tmp_path / "rest"
    users.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": config.pop("users")}))
    rest.write_text(yaml.safe_dump(config))
    assert Cluster.connect({"KUBECONFIG": f"{rest}{os.pathsep}{users}"}).get("/version")["minor"] == "36"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"current-context": "emulatr"}, "current-context 'emulatr' not found (contexts: emulator)\n"
                                         "    hint:     did you mean 'emulator'?"),
        ({"current-context": ""}, "no current context (contexts: emulator)\n    hint:     kubectl config use-context NAME"),
        ({"clusters": []}, "not a valid kubeconfig: Invalid kube-config file. Expected object with name emulator in "),
    ],
)  # fmt: skip
def test_a_kubeconfig_that_cannot_be_meant(change: dict[str, Any], said: str, cluster_api: ClusterApi, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump({**cluster_api.config(), **change}))
    assert failure(lambda: Cluster.connect({"KUBECONFIG": str(file)})).startswith(f"{file}: {said}")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "{", "just words", "\x00"])
def test_a_file_that_is_no_kubeconfig(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    assert failure(lambda: Cluster.connect({"KUBECONFIG": str(file)})).startswith(f"{file}: ")


def test_a_plugin_gives_the_credentials(cluster_api: ClusterApi, tmp_path: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": cluster_api.token},
    }
    script = f"import json; print(json.dumps({answer!r}))"
    assert plugin(cluster_api, tmp_path, ["-c", script]).get("/version")["minor"] == "36"


def test_a_plugin_that_fails(cluster_api: ClusterApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ClusterRefused) as caught:
        plugin(cluster_api, tmp_path, ["-c", "raise SystemExit('your session has ended')"])
    assert str(caught.value).startswith(
        "context emulator: cannot get the credentials: process returned 1. your session has ended\n    hint: "
    )
    assert (caught.value.exit_code, capfd.readouterr().err) == (44, "")


def plugin(api: ClusterApi, folder: Path, args: list[str]) -> Cluster:
    config = api.config()
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": args}
    config["users"][0]["user"] = {"exec": {**command, "interactiveMode": "Never"}}
    file = folder / "config"
    file.write_text(yaml.safe_dump(config))
    return Cluster.connect({"KUBECONFIG": str(file)})


def test_the_client_does_not_read_all_schemas_of_the_api() -> None:
    code = (
        "import sys; from launcher.backends.kubernetes.api.kubeconfig import client_modules; client_modules();"
        "print([name for name in ('jsonschema', 'kubernetes_validate') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
