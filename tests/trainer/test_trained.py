"""What a training in Python returns, of runs that were not trained: an adapter, and whole weights, of random numbers."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UnreachableError, UsageError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from tests.hub.writable import TOKEN, WritableHub
from trainer.trained import Trained

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
QUESTION = "When does the library open?"
SYSTEM = "You answer questions about everyday work."


def done(run: RunDir, **result: Any) -> Trained:
    """``run`` with the record and the prompt of one that is done."""
    run.prompt.write_text(json.dumps({"system": SYSTEM, "user": ["Asked: ", "question", ""], "place": None}))
    common = {"steps": 2, "train_seconds": 1.0, "train_loss": 0.5, "best_step": None, "verified": {"tensors": 28}}
    run.update_record(result={**common, **result}, template_date="2026-11-28")
    return Trained.of(run)


def written(model: Path, adapter: Path, *, whole: bool) -> None:
    """Other weights than those of ``model``: an adapter, or all of them."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(model)
    if whole:
        for weight in base.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
        return base.save_pretrained(adapter)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(base, config).save_pretrained(adapter)


def greedy(folder: Path, tokenizer: Path) -> str:
    """The answer of transformers and PEFT alone."""
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = AutoPeftModelForCausalLM if (folder / "adapter_config.json").is_file() else AutoModelForCausalLM
    model, tokens = kind.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(tokenizer)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Asked: {QUESTION}"}]
    ids = tokens.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        found = model.generate(**ids, max_new_tokens=8, do_sample=False)
    answer: str = tokens.decode(found[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return answer.strip()


@pytest.mark.parametrize("whole", [False, True])
def test_a_result_answers_as_the_saved_weights_and_as_the_base(
    tmp_path: Path, tiny_model: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setenv("DPO_CACHE_ROOT", str(tmp_path / "cache"))
    run = new_run(tmp_path, make_experiment(full_finetuning=whole), "talks")
    written(tiny_model, run.adapter, whole=whole)
    result = done(run)
    found = [result.chat(QUESTION, max_new_tokens=8), result.chat(QUESTION, base=True, max_new_tokens=8)]
    assert found == [greedy(run.adapter, tiny_model), greedy(tiny_model, tiny_model)]
    assert found[0] != found[1]
    (run.adapter / "adapter_model.safetensors").unlink(missing_ok=True)
    (run.adapter / "model.safetensors").unlink(missing_ok=True)
    assert result.chat(QUESTION, max_new_tokens=8) == found[0], "loaded once"


def test_a_result_is_pushed_to_a_private_repository_by_the_token_of_the_working_directory(
    tmp_path: Path,
    tiny_model: Path,
    make_experiment: Make,
    new_run: NewRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "")  # what .env sets is undone after the test
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    run = new_run(tmp_path, make_experiment(), "pushed")
    written(tiny_model, run.adapter, whole=False)
    (run.adapter / "README.md").write_text('---\ntags:\n- dpo-launcher\n---\nfrom_pretrained("path/to/this/folder")\n')
    result = done(run)
    with WritableHub().serving() as hub:
        (tmp_path / ".env").write_text(f"HF_TOKEN={TOKEN}\nHF_ENDPOINT={hub.url}\n")
        assert result.push("me/mine") == f"{hub.url}/me/mine"
        repository = hub.repositories["me/mine"]
        assert repository.private
        assert repository.files()["adapter_model.safetensors"] == (run.adapter / "adapter_model.safetensors").read_bytes()
        assert b'from_pretrained("me/mine")' in repository.files()["README.md"]
        assert capsys.readouterr().out == (
            f"warning: its base model, {tiny_model.name}, has no known hub name: users of the adapter need the folder of that "
            "model\n"
        )
        repository.private = False
        with pytest.raises(UsageError, match=r"me/mine is public: .*\n.*\(in Python: public=True\)"):
            result.push("me/mine")
        assert result.push("me/open", public=True, revision="v2") == f"{hub.url}/me/open/tree/v2"
        assert not hub.repositories["me/open"].private
        with pytest.raises(UsageError, match="mine: a repository is owner/name, for example my-team/my-adapter"):
            result.push("mine")
        hub.status = 503
        with pytest.raises(UnreachableError, match="cannot be reached: HTTP 503") as caught:
            result.push("me/mine")
    told = "".join(traceback.format_exception(caught.value))
    assert "the hub (http://127.0.0.1:" in told
    assert "direct cause" not in told, "no frames of the hub's client"


def test_metrics_are_the_final_figures_by_their_names_in_the_log(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    run = new_run(tmp_path, make_experiment(), "figures")
    training = {"first": {"steps": [1, 1], "loss": 0.69}, "last": {"steps": [2, 2], "loss": 0.4, "rewards/margins": 1.5}}
    result = done(run, training=training, before={"eval_loss": 0.69}, after={"eval_loss": 0.3, "eval_rewards/accuracies": 1.0})
    assert dict(result.metrics) == {
        "train_loss": 0.5, "loss": 0.4, "rewards/margins": 1.5, "eval_loss": 0.3, "eval_rewards/accuracies": 1.0,
    }  # fmt: skip
    alone = done(run, training=None)
    assert dict(alone.metrics) == {"train_loss": 0.5}


def test_a_result_is_one_line_in_a_console_and_its_summary_in_a_notebook(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = new_run(tmp_path, make_experiment(), "shown")
    result = done(run, before={"eval_loss": 0.6931}, after={"eval_loss": 0.3})
    assert repr(result) == "Trained('shown', steps=2, loss=0.5000)"
    part = result._repr_html_()
    assert part is not None
    assert '<tr><th scope="row">loss</th><td>0.6931</td><td>0.3000</td></tr>' in part
    run.record.unlink()
    assert result._repr_html_() is None, "a notebook shows the line where the folder is gone"


def test_figures_are_dicts_because_pandas_takes_no_other_mapping(tmp_path: Path, make_experiment: Make, new_run: NewRun) -> None:
    import pandas

    result = done(new_run(tmp_path, make_experiment(), "frame"), before={"eval_loss": 0.7}, after={"eval_loss": 0.3})
    frame = pandas.DataFrame({"before": result.before, "after": result.after, "final": result.metrics})
    assert frame.loc["eval_loss"].tolist() == [0.7, 0.3, 0.3]
