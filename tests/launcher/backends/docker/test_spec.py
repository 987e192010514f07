"""What a job becomes as a container, without an engine."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.docker.container import Person, Place
from launcher.backends.docker.engine import check_near, explained
from launcher.backends.docker.paths import layout
from launcher.backends.docker.spec import DockerSpec, notices, render, text
from launcher.errors import ExperimentError, LauncherError
from launcher.experiment.schema import Experiment
from launcher.job.image import Image
from launcher.job.job import plan

GOLDEN = Path(__file__).parents[3] / "golden"
ME = Person(1000, 1000, (1000, 27, 998), "you", Path("/home/you"))


def experiment(launch: dict[str, Any] | None = None, **fields: Any) -> Experiment:
    data = {"experiment_id": 1, "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data/answers", "launch": launch or {}}
    return Experiment.parse({**data, **fields})


def rendered(there: int = 0, caller: dict[str, str] | None = None, person: Person = ME, **fields: Any) -> DockerSpec:
    job = plan(experiment(**fields), run="exp_1-20261124-101112-beef", key="exp_1", gpus_there=there, origin="configs/e.yml")
    image = Image("dpo-launcher:cuda-0123456789abcdef", "cuda")
    caller = {"HOME": "/home/you", **(caller or {})}
    secrets = Path("/run/user/1000/dpo-launcher-1000")
    place = Place(Path("/home/you/my project"), 16, person, image, secrets, caller, lambda path: "model" in str(path))
    return render(job, place)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        (
            "docker-gpu",
            {
                "there": 4,
                "caller": {
                    "CUDA_VISIBLE_DEVICES": "2,3,0,1", "HF_TOKEN": "x", "HTTPS_PROXY": "http://p:1", "HF_HOME": "/big, disk/hf",
                },
                "launch": {
                    "gpus": 2, "memory": "64Gi", "shm_size": "16Gi", "cpus": 12, "max_restarts": 0, "secrets": ["WANDB_API_KEY"],
                    "env": {"HTTPS_PROXY": None, "GREETING": "it's me"},
                },
            },
        ),
        ("docker-cpu", {"model_name": "../models/tiny", "datasets_path": "/srv/data", "hyperparameters": {"max_steps": 5}}),
    ],
)  # fmt: skip
def test_what_render_prints(name, made):
    spec = rendered(**made)
    for golden, full in ((GOLDEN / f"{name}.sh", True), (GOLDEN / f"{name}-command.sh", False)):
        if os.environ.get("REWRITE_GOLDEN"):
            golden.write_text(text(spec, full=full))
        assert text(spec, full=full) == golden.read_text()


@pytest.mark.parametrize(
    ("paths", "roots", "mounts"),
    [
        ({}, ("/dpo/runs", "/dpo/data"), {"/dpo/data/data/answers": "/home/you/p/data/answers"}),
        ({"datasets_path": "./a/../b"}, ("/dpo/runs", "/dpo/data"), {"/dpo/data/b": "/home/you/p/b"}),
        ({"datasets_path": "../b"}, ("/dpo/runs", "/dpo/data/p"), {"/dpo/data/b": "/home/you/b"}),
        ({"datasets_path": "../../b"}, ("/dpo/runs", "/dpo/data/you/p"), {"/dpo/data/b": "/home/b"}),
        ({"datasets_path": "~/b"}, ("/dpo/runs", "/dpo/data"), {"/dpo/home/b": "/home/you/b"}),
        ({"datasets_path": "/srv/b"}, ("/dpo/runs", "/dpo/data"), {"/srv/b": "/srv/b"}),
        ({"model_name": "./model"}, ("/dpo/runs", "/dpo/data"), {"/dpo/data/model": "/home/you/p/model"}),
        ({"adapter": "a/model-sft"}, ("/dpo/runs", "/dpo/data"), {"/dpo/data/a/model-sft": "/home/you/p/a/model-sft"}),
        ({"hyperparameters": {"model_output_dir": "../out"}}, ("/dpo/runs/p", "/dpo/data"), {"/dpo/runs/out": "/home/you/out"}),
    ],
)
def test_a_path_of_the_experiment_is_where_the_experiment_says(paths, roots, mounts):
    made = layout(experiment(**paths), Path("/home/you/p"), Path("/home/you"), Path("/c"), lambda path: "model" in str(path))
    assert (made.runs, made.data) == roots
    assert mounts.items() <= {mount.target: str(mount.source) for mount in made.mounts}.items()


def test_what_is_read_cannot_be_written():
    rights = {mount.target: mount.read_only for mount in rendered(model_name="./model").mounts}
    assert rights == {
        "/dpo/cache": False,
        "/dpo/data/data/answers": True,
        "/dpo/data/model": True,
        "/dpo/runs/data/dpo/model": False,
        "/dpo/runs/data/dpo/model/exp_1/model/runs/exp_1-20261124-101112-beef/experiment.json": True,
    }


@pytest.mark.parametrize("path", ["s3://bucket/data", "hf://org/prefs@v1"])
def test_data_on_a_server_need_no_mount(path):
    here, there = rendered(), rendered(datasets_path=path)
    assert set(here.mounts) - set(there.mounts) == {one for one in here.mounts if one.target == "/dpo/data/data/answers"}


@pytest.mark.parametrize("path", ["/", "/usr/share/data", "/etc", "/opt", "/dpo/data", "~them/data"])
def test_a_folder_that_would_hide_the_images_own_is_refused(path):
    with pytest.raises(ExperimentError, match=r"datasets_path: (would hide files of the image|is another user's home)"):
        rendered(datasets_path=path)


def test_a_gpu_is_asked_for_only_where_the_job_has_one():
    assert rendered().gpus == 0
    assert rendered().env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert not {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"} & rendered(2).env.keys()
    assert "--gpus 2 " in text(rendered(2))


def test_a_rootless_engines_root_is_the_caller():
    made = rendered(person=Person(1000, 1000, (27,), "you", Path("/home/you"), is_rootless=True))
    assert (made.user, made.groups) == ("0:0", ())


def test_secrets_that_the_experiment_may_need_are_handed_on_if_the_caller_has_them():
    caller = {"HF_TOKEN": "a", "AWS_ACCESS_KEY": "b", "GOOGLE_SHEETS_PRIVATE_KEY": "c"}
    assert rendered(caller=caller).secrets == ("HF_TOKEN",)
    assert rendered(caller=caller, storage_config={"bucket_name": "b"}).secrets == ("AWS_ACCESS_KEY", "HF_TOKEN")
    assert rendered().secrets == ()
    assert rendered(notify="HOOK", caller={"HOOK": "https://chat.example/planted"}).secrets == ("HOOK",)
    assert "planted" not in text(rendered(notify="HOOK", caller={"HOOK": "https://chat.example/planted"}))


def test_a_container_asks_the_storage_that_the_caller_asks():
    place = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "https://minio.example.com"}
    secret = {"AWS_ENDPOINT_URL_S3": "https://me:hush@minio.example.com"}
    env = rendered(caller={**place, **secret}).env
    assert {name: value for name, value in env.items() if name.startswith("AWS_")} == place
    with pytest.raises(ExperimentError, match="AWS_ENDPOINT_URL_S3: contains a user name or a password"):
        rendered(caller={**place, **secret}, storage_config={"bucket_name": "b"})


def test_a_container_gets_the_caller_s_proxies_and_one_with_a_password_as_a_file():
    caller = {"HTTPS_PROXY": "http://me:hush@proxy:3128", "http_proxy": "http://proxy:3128", "NO_PROXY": ".example.com"}
    made = rendered(caller=caller, launch={"env": ["HTTPS_PROXY"]})
    assert {name: made.env[name] for name in caller if name in made.env} == {
        "http_proxy": "http://proxy:3128", "NO_PROXY": ".example.com",
    }  # fmt: skip
    assert made.secrets == ("HTTPS_PROXY",)
    assert "hush" not in text(made)
    own = rendered(caller=caller, launch={"env": {"HTTPS_PROXY": "http://other:1"}})
    assert (own.env["HTTPS_PROXY"], own.secrets) == ("http://other:1", ())


def test_certificates_are_mounted_where_the_container_is_told(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    made = rendered(caller={"AWS_CA_BUNDLE": str(bundle), "SSL_CERT_DIR": str(tmp_path)})
    mounts = {mount.target: (mount.source, mount.read_only) for mount in made.mounts}
    assert mounts["/dpo/ca/AWS_CA_BUNDLE"] == (bundle, True)
    assert mounts["/dpo/ca/SSL_CERT_DIR"] == (tmp_path, True)
    assert made.env["AWS_CA_BUNDLE"] == "/dpo/ca/AWS_CA_BUNDLE"
    by_name = rendered(caller={"AWS_CA_BUNDLE": str(bundle)}, launch={"env": ["AWS_CA_BUNDLE"]})
    assert by_name.env["AWS_CA_BUNDLE"] == "/dpo/ca/AWS_CA_BUNDLE"
    several = rendered(caller={"SSL_CERT_DIR": f"/no/such:{tmp_path}:/usr"})
    assert several.env["SSL_CERT_DIR"] == "/dpo/ca/SSL_CERT_DIR:/dpo/ca/SSL_CERT_DIR-1"
    mounts = {mount.target: str(mount.source) for mount in several.mounts}
    assert (mounts["/dpo/ca/SSL_CERT_DIR"], mounts["/dpo/ca/SSL_CERT_DIR-1"]) == (str(tmp_path), "/usr")
    chosen = rendered(caller={"AWS_CA_BUNDLE": "/no/such/file"}, launch={"ca_bundle": str(bundle)})
    names = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    assert [mount.target for mount in chosen.mounts if mount.source == bundle] == ["/dpo/ca/ca.pem"]
    assert {chosen.env[name] for name in names} == {"/dpo/ca/ca.pem"}
    with pytest.raises(ExperimentError, match=r"launch.ca_bundle: /no/such/file not found"):
        rendered(launch={"ca_bundle": "/no/such/file"})
    inside = rendered(caller={"AWS_CA_BUNDLE": str(bundle)}, launch={"env": {"AWS_CA_BUNDLE": "/etc/ssl/ca.pem"}})
    assert (inside.env["AWS_CA_BUNDLE"], [one for one in inside.mounts if one.source == bundle]) == ("/etc/ssl/ca.pem", [])
    with pytest.raises(ExperimentError, match=r"REQUESTS_CA_BUNDLE: no\.pem not found"):
        rendered(caller={"REQUESTS_CA_BUNDLE": "no.pem"})


def test_the_hub_s_caches_of_the_caller_are_those_of_the_container():
    made = rendered(caller={"HF_HOME": "/big/hf", "HF_HUB_CACHE": "/other/hub"})
    mounts = {mount.target: (str(mount.source), mount.read_only) for mount in made.mounts}
    assert mounts[made.env["HF_HOME"]] == ("/big/hf", False)
    assert mounts[made.env["HF_HUB_CACHE"]] == ("/other/hub", False)
    assert "HF_HUB_CACHE" not in rendered().env


def test_a_server_of_this_machine_is_another_one_in_a_container():
    caller = {"https_proxy": "http://me:hush@127.0.0.1:3128"}
    storage = {"bucket_name": "b", "endpoint_url": "http://localhost:9000"}
    told = [one for one in rendered(caller=caller, storage_config=storage).comments if "container itself" in one]
    is_itself = "in a container that is the container itself; use an address that it can reach"
    assert told == [
        f"https_proxy is http://127.0.0.1:3128: {is_itself}",
        f"storage_config.endpoint_url is http://localhost:9000: {is_itself}",
    ]
    shared = rendered(2, caller=caller, launch={"gpus": 1, "nodes": 2})
    assert not [one for one in shared.comments if "container itself" in one], "it has the network of the machine"


def test_a_tracker_that_would_have_no_key_in_the_container_is_told():
    settings = {"report_to": ["wandb"]}
    told = [one for one in rendered(hyperparameters=settings).comments if "WANDB_API_KEY" in one]
    assert told == [
        "report_to has wandb, and no key for it reaches the container: set launch.secrets: [WANDB_API_KEY], or "
        "launch.env: {WANDB_MODE: offline}"
    ]
    named = rendered(hyperparameters=settings, launch={"secrets": ["WANDB_API_KEY"]})
    assert not [one for one in named.comments if one in told]


def test_a_container_is_not_given_the_key_of_a_spreadsheet_that_the_launcher_has_read():
    caller = {"GOOGLE_SHEETS_CLIENT_EMAIL": "a@b.example", "GOOGLE_SHEETS_PRIVATE_KEY": "c"}
    made = rendered(caller=caller, datasets_path=None, spreadsheet_id="1", train_sheet="Train")
    assert made.secrets == ()
    assert "the spreadsheet is read once, into data/read of the run's folder" in made.comments


def test_the_container_is_named_after_its_run_and_its_folder():
    assert re.fullmatch("dpo-exp_1-20261124-101112-beef-[0-9a-f]{6}", rendered().name)
    other = rendered(hyperparameters={"model_output_dir": "elsewhere"})
    assert other.name != rendered().name
    assert other.labels["dpo-launcher/folder"].startswith("/home/you/my project/elsewhere/exp_1/")


def test_settings_without_effect_are_named_once():
    job = plan(experiment({"max_restarts": 1, "memory": "1Gi"}), run="r", key="k", gpus_there=0)
    assert notices(job) == ["launch.max_restarts has no effect on the docker backend"]


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "NVIDIA Container Toolkit"),
        ("write /var/lib/docker/tmp/x: no space left on device", "the engine's disk is full"),
        ("exec /usr/bin/tini: exec format error", "another processor"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "another processor"),
        ("pull access denied for me/x, repository does not exist or may require 'docker login'", "the registry denied access"),
        ("manifest for me/x:1 not found: manifest unknown: manifest unknown", "image not found in the registry"),
        ("Get \"https://r.example.com/v2/\": dial tcp: lookup r.example.com: no such host", "cannot connect to the registry"),
        ('Conflict. The container name "/dpo-x" is already in use by container "1"', "started twice"),
        ("Mounts denied: The path /srv is not shared from the host", "cannot see a mounted folder"),
    ],
)  # fmt: skip
def test_what_an_engine_says_is_explained(words, meaning):
    assert meaning in explained(words)


@pytest.mark.parametrize("where", ["tcp://gpu-box:2376", "ssh://you@gpu-box", "http://10.0.0.1:2375"])
def test_an_engine_of_another_machine_is_refused(where):
    with pytest.raises(LauncherError, match="runs on another machine, which does not have the folders of this run"):
        check_near(where)


@pytest.mark.parametrize("where", ["unix:///var/run/docker.sock", "tcp://localhost:2375", "tcp://127.0.0.1:2375"])
def test_an_engine_of_this_machine_is_near(where):
    check_near(where)


def test_words_that_nobody_has_met_are_not_explained():
    assert explained("the moon is full") is None
