"""Pushing to a hub that answers over HTTP: what arrives, byte for byte, and what is said where nothing can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.after.push import Destination, Pushed, push
from launcher.cli import main
from launcher.errors import CredentialError, LauncherError, UnreachableError, UsageError
from launcher.job.target import Target
from launcher.redact import REDACTOR
from tests.hub.writable import TOKEN, Repository, WritableHub
from tests.run_folders import Made

CARD = """---
base_model: Qwen/Qwen3-0.6B
---

model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")
"""
WEIGHTS = bytes(range(256)) * 300
TO = Destination("me/mine")


@pytest.fixture
def hub() -> Iterator[WritableHub]:
    with WritableHub().serving() as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Target:
    """A run whose adapter was read back, trained in a container."""
    made = Made("steady", record={"result": {"steps": 40, "verified": {"compared": "adapter", "tensors": 56}}})
    folder = made.write(tmp_path).adapter
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    config = {"base_model_name_or_path": "/dpo/cache/staged/0123/tiny", "r": 16}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return Target.of(folder.parent)


def sent(hub: WritableHub, target: Target, to: Destination = TO, **env: str) -> Pushed:
    return push(target, to, {"HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.url, **env})


def test_a_push_makes_a_private_repository_with_the_adapter_s_files_byte_for_byte(hub: WritableHub, run: Target) -> None:
    done = sent(hub, run)
    repository = hub.repositories["me/mine"]
    assert repository.private
    assert repository.files() == {
        "README.md": CARD.replace("path/to/this/folder", "me/mine").encode(),
        "adapter_config.json": json.dumps({"base_model_name_or_path": "Qwen/Qwen3-0.6B", "r": 16}, indent=2).encode(),
        "adapter_model.safetensors": WEIGHTS,
        "chat_template.jinja": b"{{ messages }}",
    }
    commits = [name for name, _ in repository.branches["main"]]
    assert (done.url, done.commit, done.is_new, done.files, done.notices) == (f"{hub.url}/me/mine", commits[-1], True, 4, ())
    assert len(commits) == 2, "one commit"
    assert run.run is not None
    pushed = {"repository": "me/mine", "commit": commits[-1]}
    assert run.run.read_record()["pushed"] == pushed, "a server on a cluster reads it from there"


def test_the_same_files_make_no_second_commit_and_a_changed_one_is_sent_alone(hub: WritableHub, run: Target) -> None:
    first = sent(hub, run)
    hub.requests.clear()
    again = sent(hub, run)
    assert (again.commit, again.is_new) == (first.commit, False)
    assert not [one for one in hub.requests if "PUT" in one or "/commit/" in one]
    (run.weights / "chat_template.jinja").write_text("another")
    changed = sent(hub, run)
    assert changed.is_new
    assert not [one for one in hub.requests if "PUT" in one]
    assert hub.repositories["me/mine"].files()["chat_template.jinja"] == b"another"


def test_a_branch_is_made_from_main_and_main_stays_as_it_is(hub: WritableHub, run: Target) -> None:
    done = sent(hub, run, Destination("me/mine", revision="beta-0.3"))
    repository = hub.repositories["me/mine"]
    assert repository.files() == {}
    assert repository.files("beta-0.3")["adapter_model.safetensors"] == WEIGHTS
    assert done.url == f"{hub.url}/me/mine/tree/beta-0.3"


def test_what_a_training_needs_for_itself_is_not_pushed(hub: WritableHub, run: Target) -> None:
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", ".env"):
        (run.weights / name).write_text("x")
    (run.weights / "checkpoint-4").mkdir()
    done = sent(hub, run)
    assert len(hub.repositories["me/mine"].files()) == 4
    assert done.notices == ("not pushed: checkpoint-4/, optimizer.pt, trainer_state.json, training_args.bin",)


@pytest.mark.parametrize(
    ("card", "base", "pushed"),
    [
        ("library_name: peft", "/dpo/cache/staged/0123/tiny", "tiny"),
        ("library_name: peft", "s3://models/tiny", "tiny"),
        ("library_name: peft", "gpt2", None),
        ("base_model: gpt2", "gpt2", None),
        ("tags:\n- dpo-launcher", "models/tiny", "tiny"),
    ],
)
def test_a_base_that_is_a_path_is_pushed_without_it(
    hub: WritableHub, run: Target, card: str, base: str, pushed: str | None
) -> None:
    (run.weights / "README.md").write_text(f"---\n{card}\n---\n")
    (run.weights / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    done = sent(hub, run)
    config = json.loads(hub.repositories["me/mine"].files()["adapter_config.json"])
    assert config["base_model_name_or_path"] == (pushed or base)
    said = "its base model, tiny, has no known hub name: users of the adapter need the folder of that model"
    assert done.notices == ((said,) if pushed else ())


def test_the_empty_template_of_an_earlier_version_is_left_out(hub: WritableHub, run: Target) -> None:
    (run.weights / "README.md").write_text("---\nbase_model: /home/me/tiny\n---\n\n[More Information Needed]\n")
    done = sent(hub, run)
    assert "README.md" not in hub.repositories["me/mine"].files()
    assert done.notices[0].startswith("README.md is PEFT's empty template and is not pushed")


def test_a_merged_model_in_a_folder_of_its_own_is_pushed(hub: WritableHub, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    folder.mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (folder / name).write_text("{}" + name)
    sent(hub, Target.of(folder), Destination("me/merged", is_public=True))
    assert not hub.repositories["me/merged"].private
    assert sorted(hub.repositories["me/merged"].files()) == sorted(path.name for path in folder.iterdir())


def test_a_public_repository_is_not_written_unless_asked(hub: WritableHub, run: Target) -> None:
    hub.repositories["me/mine"] = Repository(private=False)
    with pytest.raises(
        UsageError,
        match=r"me/mine is public: everybody could read these weights\n    hint: .*add --public \(in Python: public=True\)",
    ):
        sent(hub, run)
    assert hub.repositories["me/mine"].files() == {}
    sent(hub, run, Destination("me/mine", is_public=True))
    assert len(hub.repositories["me/mine"].files()) == 4


def test_a_private_repository_stays_private(hub: WritableHub, run: Target) -> None:
    hub.repositories["me/mine"] = Repository(private=True)
    done = sent(hub, run, Destination("me/mine", is_public=True))
    assert done.notices == ("me/mine stays private; make it public in its settings on the hub",)


@pytest.mark.parametrize(
    ("token", "to", "why"),
    [("hf_" + "wrong" * 8, "me/mine", "HTTP 401"), (TOKEN, "others/mine", "HTTP 403"), ("", "me/mine", "HTTP 401")],
)
def test_a_token_that_may_not_write_is_a_credentials_error(
    hub: WritableHub, run: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str, to: str, why: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(CredentialError) as caught:
        sent(hub, run, Destination(to), HF_TOKEN=token)
    assert str(caught.value).startswith(f"cannot write to {to}: permission denied ({why}")
    assert str(caught.value).endswith(f"set HF_TOKEN in .env to a token with write access to {to.partition('/')[0]}")
    assert hub.repositories == {}


def test_a_token_that_may_only_read_the_repository_is_a_credentials_error(hub: WritableHub, run: Target) -> None:
    hub.repositories["others/mine"] = Repository(private=True)
    with pytest.raises(CredentialError, match=r"cannot write to others/mine: permission denied \(HTTP 403"):
        sent(hub, run, Destination("others/mine"))


def test_a_hub_that_is_away_is_unreachable(hub: WritableHub, run: Target) -> None:
    hub.status = 503
    with pytest.raises(UnreachableError, match=r"the hub \(http://127.0.0.1:\d+\) cannot be reached: HTTP 503"):
        sent(hub, run)
    with pytest.raises(UnreachableError, match=r"the hub \(http://127.0.0.1:9\) cannot be reached: connection refused"):
        sent(hub, run, HF_ENDPOINT="http://127.0.0.1:9")


def test_a_card_that_the_hub_refuses_is_its_sentence(hub: WritableHub, run: Target) -> None:
    (run.weights / "README.md").write_text("---\nbase_model: /home/me/tiny\n---\n\nMine.\n")
    with pytest.raises(
        LauncherError, match=r'cannot push to me/mine: Invalid metadata .*"base_model" /home/me/tiny is no model id'
    ):
        sent(hub, run)


def test_a_run_whose_weights_were_not_compared_is_not_pushed(hub: WritableHub, run: Target) -> None:
    assert run.run is not None
    run.run.update_record(result={"steps": 40})
    with pytest.raises(UsageError, match="steady: its weights were not read back and compared"):
        sent(hub, run)
    assert hub.requests == []


@pytest.mark.parametrize("to", ["mine", "me/mine/more", "https://huggingface.co/me/mine", "me/"])
def test_an_address_is_an_owner_and_a_name(hub: WritableHub, run: Target, to: str) -> None:
    with pytest.raises(UsageError, match="a repository is owner/name"):
        sent(hub, run, Destination(to))


def test_a_secret_in_a_file_is_found_before_anything_is_sent(hub: WritableHub, run: Target, monkeypatch: Any) -> None:
    monkeypatch.setattr(REDACTOR, "_names", {})
    monkeypatch.setattr(REDACTOR, "_learned", None)
    REDACTOR.learn({"WANDB_API_KEY": "0123456789abcdef"})
    (run.weights / "notes.md").write_text("use 0123456789abcdef")
    with pytest.raises(UsageError, match=r"notes\.md contains the value of WANDB_API_KEY"):
        sent(hub, run)
    assert hub.requests == []


def test_without_the_hub_s_client_there_is_the_command_that_installs_it(
    hub: WritableHub, run: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.packages.find_spec", lambda name: None)
    with pytest.raises(
        LauncherError, match=r"^push needs huggingface_hub, which dpo-launcher\[trainer\] installs\n    without a GPU:  "
    ):
        sent(hub, run)


def test_the_verb_reads_the_token_from_env_and_prints_address_and_commit(
    hub: WritableHub, run: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "")  # what .env sets is undone after the test
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def launched() -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["push", "steady", "--to", "me/mine"])
        return int(ended.value.code or 0), *capsys.readouterr()

    (tmp_path / ".env").write_text(f"HF_TOKEN={TOKEN}\nHF_ENDPOINT={hub.url}\n")
    code, out, err = launched()
    commit = hub.repositories["me/mine"].branches["main"][-1][0][:12]
    assert (code, out, err) == (0, f"Pushed 4 files (77.0 kB) to {hub.url}/me/mine, commit {commit}\n", "")
    assert launched() == (0, f"{hub.url}/me/mine already has these 4 files (77.0 kB)\n", "")
    hub.status = 502
    code, out, err = launched()
    assert (code, out) == (48, "")
    assert err.startswith(f"error: the hub ({hub.url}) cannot be reached: HTTP 502 (Bad Gateway)")
