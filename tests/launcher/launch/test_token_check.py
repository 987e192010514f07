from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.launch import token_check
from launcher.packages import installation
from tests.trainer.inputs.tokens.chats import CHATML, NO_SYSTEM, tokenizer

ROWS = "prompt,chosen,rejected\nWhere is it?,At Linden Square.,Somewhere.\nHow many?,Nine of them.,Some.\n"
FILE = """\
fits: {experiment_id: 1, model_name: plain, datasets_path: data, prompt_filename: none.csv}
refused: {experiment_id: 2, model_name: refuses, datasets_path: data}
long: {experiment_id: 3, model_name: plain, datasets_path: data, prompt_filename: none.csv, hyperparameters: {max_seq_length: 12}}
broken: {experiment_id: 4, model_name: broken, datasets_path: data}
beyond: {experiment_id: 6, model_name: small, datasets_path: data, prompt_filename: none.csv}
wrong: {experiment_id: 5, model_name: plain, datasets_path: data, hyperparameters: {beta: much}}
"""

Launcher = Callable[..., tuple[int, str, str]]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Launcher:
    """Types a command line where there are four models with empty weights; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    for name, template in (("plain", CHATML), ("refuses", NO_SYSTEM), ("broken", "{% for"), ("small", CHATML)):
        tokenizer(template).save_pretrained(name)
        config = {"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 40 if name == "small" else 32000}
        Path(name, "config.json").write_text(json.dumps({**config, "max_position_embeddings": 30}))
        Path(name, "model.safetensors").touch()
    Path("data").mkdir()
    Path("data/training_data.csv").write_text(ROWS)
    Path("data/none.csv").write_text("name,system,user\nprompt_default,,{prompt}\n")
    Path("data/prompt_data.csv").write_text("name,system,user\nprompt_default,You answer as a clerk.,{prompt}\n")

    def type_in(text: str, *args: str) -> tuple[int, str, str]:
        Path("configs").mkdir(exist_ok=True)
        Path("configs/a.yml").write_text(text)
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return type_in


def test_check_with_tokens_finds_what_a_run_would_refuse_before_it_loads_weights(launcher: Launcher) -> None:
    code, out, err = launcher(FILE, "check", "--tokens", "--json")
    found = {one["key"]: one for one in json.loads(out)["experiments"]}
    assert code == 42
    assert {key: one.get("tokens") for key, one in found.items() if one.get("tokens")} == {
        "fits": {"pairs": 2, "tokens": 115, "longest": 32, "cut": 0}
    }
    assert found["refused"]["error"].startswith("data/prompt_data.csv:2: the model's chat template takes no system message\n")
    assert found["long"]["error"] == (
        "data/training_data.csv:2: the prompt leaves no room for an answer\n"
        "    expected: a prompt shorter than max_seq_length (12 tokens)\n"
        "    found:    22 tokens\n"
        "    hint:     raise hyperparameters.max_seq_length or shorten the prompt\n"
        "    also at:  data/training_data.csv:3"
    )
    assert found["beyond"]["error"].startswith("configs/a.yml:5:40: model_name: token ")
    assert " and the embedding of small has 40 rows\n" in found["beyond"]["error"]
    (notice,) = (one for one in found["fits"]["notices"] if "longer than" in one)
    assert notice.startswith("1 of 2 pairs are longer than the 30 tokens for which the positions of plain were trained")
    assert found["broken"]["error"].startswith("configs/a.yml:4:40: model_name: the model's chat template cannot be used\n")
    assert (found["wrong"]["error"], found["wrong"]["training_pairs"]) == (None, 2), "its file has a mistake: no tokens are made"
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 5
    assert "Traceback" not in err


def test_tokens_and_what_is_said_of_them_are_shown(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"text": "1 of 4 answers are cut", "is_warning": True}
    answer = {"pairs": 2, "tokens": 1150, "longest": 32, "cut": 1, "notices": [said]}
    monkeypatch.setattr(token_check, "ask", lambda *args, **kwargs: [answer])
    code, out, _ = launcher(FILE.splitlines()[0], "check", "--tokens")
    first, second = out.splitlines()
    assert code == 0
    assert first.endswith("; columns prompt, chosen, rejected); 1,150 tokens per epoch, longest sequence 32 tokens")
    assert second.strip() == "warning: 1 of 4 answers are cut"


def test_missing_packages_are_named_with_the_command_that_installs_them(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.packages.find_spec", lambda name: None if name == "trl" else object())
    code, _, err = launcher(FILE.splitlines()[0], "check", "--tokens")
    assert (code, err) == (1, f"error: --tokens needs trl, which dpo-launcher[trainer] installs\n{installation()}\n")
