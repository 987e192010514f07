"""The sections of a model card in Markdown, from a run's files. Pure."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import yaml

from launcher.data.prompt import kept_prompt
from launcher.data.text.template import is_alone, written
from launcher.hub import FOLDER
from launcher.report.repeat import again, given
from launcher.report.reported import Reported
from launcher.runs.known import duration, pairs_a_step
from launcher.runs.learned.figures import Figures
from launcher.runs.learned.samples import last

from .base import Base

_SAMPLES: Final = 3
_TEXT: Final = 400  # characters kept of a prompt or an answer
# Paths, and how the run was started, are of no use to others.
_OWN: Final = ("experiment_id", "storage_config", "launch", "notify", "health", "samples", "output_processed_dir",
               "save_processed_dataset", "spreadsheet_id")  # fmt: skip
_OWN_HYPER: Final = ("hyperparameters_id", "model_output_dir", "model_cache_dir", "report_to", "resume_from_checkpoint")
_METHODS: Final = {
    "dpo": "DPO ([Rafailov et al., 2023](https://arxiv.org/abs/2305.18290))",
    "sft": "supervised fine-tuning on the chosen answers",
}


@dataclass(frozen=True)
class CardText:
    """The card of ``run``, whose record has its result. ``base``: the base model's public identity.

    ``is_merged``: the weights are base and adapter merged.
    """

    run: Reported
    base: Base
    is_merged: bool = False

    @property
    def hyper(self) -> Mapping[str, Any]:
        return self.run.experiment.get("hyperparameters") or {}

    @property
    def method(self) -> str:
        return str(self.run.experiment.get("method") or "dpo")

    @property
    def is_whole(self) -> bool:
        """Whether transformers alone can load the weights."""
        return self.is_merged or bool(self.hyper.get("full_finetuning"))

    @cached_property
    def start(self) -> Mapping[str, Any]:
        """The adapter that the run started from: ``name`` (see ``_of_adapter``), ``mode``, ``revision``; empty without one."""
        found = self.run.record.get("adapter") or {}
        return {**found, "name": _of_adapter(found["name"])} if found.get("name") else {}

    def title(self) -> str:
        topic = self.run.record.get("topic") or self.run.record.get("key") or self.run.name
        return f"# {self.base.name.rpartition('/')[2]}: {_line(str(topic))}"

    def summary(self) -> str:
        """What it is, in two or three sentences."""
        lora = f"a LoRA adapter (rank {self.hyper.get('r')}, alpha {self._alpha})"
        is_full = self.hyper.get("full_finetuning")
        what = "All weights of" if is_full else f"{lora[0].upper()}{lora[1:]} for"
        base = f"`{self.base.name}`"
        if self.base.revision:
            base += f" (revision `{self.base.revision[:12]}`)"
        elif self.base.hub is None and self.base.identity:
            base += f", a local model whose configuration and weights have the hash `{self.base.identity[:16]}`"
        how = _METHODS.get(self.method, self.method)
        loss = "" if self.method != "dpo" else f", {_listed(self.hyper.get('loss_type'))} loss, beta {self.hyper.get('beta')}"
        first = f"{what} {base}, trained with {how}{loss}."
        if self.is_merged and not is_full:
            first = f"The weights of {base}, with {lora} merged into them. The adapter was trained with {how}{loss}."
        return " ".join(filter(None, [first, self._work(), self._start()]))

    @property
    def _alpha(self) -> str:
        alpha = self.hyper.get("lora_alpha")
        return f"{alpha:g}" if isinstance(alpha, int | float) else str(alpha)

    def _work(self) -> str:
        result, pairs, batch = self.run.result, (self.run.record.get("work") or {}).get("pairs"), pairs_a_step(self.run.record)
        steps, epochs = result.get("steps"), result.get("epoch")
        if steps is None or pairs is None:
            return ""
        unit = "answer" if self.method == "sft" else "pair"
        of = "" if batch is None else f" of {batch} {unit}{'s' * (batch != 1)}"
        data = f"{pairs:,} {unit}s"
        if epochs is not None:
            data = f"{epochs:.3g} epoch{'s' * (epochs != 1)} of {data}"
        return f"The training took {steps:,} steps{of}: {data}."

    def _start(self) -> str:
        if not self.start:
            return ""
        name, mode, commit = self.start["name"], self.start.get("mode"), self.start.get("revision")
        of = f" (revision `{str(commit)[:12]}`)" if commit else ""
        if mode == "merge":
            ranks = (self.start.get("joined") or {}).get("ranks")
            joined = f" and is part of this one, which therefore has rank {', '.join(map(str, ranks))}" if ranks else ""
            return f"The adapter `{name}`{of} was merged into the base before the training{joined}."
        return f"The training continued the adapter `{name}`{of}."

    def loading(self) -> str:
        """Python code that loads it, and what else its answers depend on."""
        parts = ["## Use it", "\n".join(["```python", *self._lines(), "```"])]
        if self.base.hub is None and not self.is_whole:
            parts.append(f"`BASE` is the folder of the base model `{self.base.name}`.")
        parts.append("The tokenizer has the chat template of the training.")
        system, user = self._prompt()
        if system:
            parts.append(f"Every prompt of the training had this system message:\n\n{_fenced(system)}")
        if user:
            parts.append(f"User messages were made by this template:\n\n{_fenced(user)}")
        return "\n\n".join(parts)

    def _lines(self) -> list[str]:
        tokenizer = f'tokenizer = AutoTokenizer.from_pretrained("{FOLDER}")'
        if self.is_whole:
            load = f'model = AutoModelForCausalLM.from_pretrained("{FOLDER}")'
            return ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", load, tokenizer]
        if self.base.hub is not None:
            head = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer", ""]
            return [*head, f'model = AutoPeftModelForCausalLM.from_pretrained("{FOLDER}")', tokenizer]
        head = ["from peft import PeftModel", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
        lines = [*head, 'base = AutoModelForCausalLM.from_pretrained("BASE")']
        return [*lines, f'model = PeftModel.from_pretrained(base, "{FOLDER}")', tokenizer]

    def _prompt(self) -> tuple[str | None, str | None]:
        """(system text, template of user messages); the template is None if it is one column alone."""
        try:
            found = kept_prompt(self.run.run)
        except (OSError, ValueError, KeyError, TypeError):
            found = None
        if found is None:
            return None, None
        return found.system, None if is_alone(found.user) else written(found.user)

    def figures(self) -> str:
        found = Figures.of(self.run.result)
        if found is None:
            return ""
        table = _table([("", *found.heads), *found.rows])
        meanings = "\n".join(f"- {label}: {meaning}" for label, meaning in found.meanings)
        parts = ["## Figures", f"Means {found.what}", table, meanings, found.displaced and f"Note: {found.displaced}"]
        return "\n\n".join(filter(None, parts))

    def answers(self) -> str:
        """Sample answers of the saved weights."""
        found = last(self.run.samples or ())[:_SAMPLES]
        if not found:
            return ""
        blocks = [
            "\n>\n".join(f"> **{name}:** {_cut(text)}" for name, text in _of_sample(one.prompt, one.base, one.adapter))
            for one in found
        ]
        return "\n\n".join(["## Answers before and after", "Greedy decoding; long texts are cut.", "\n\n---\n\n".join(blocks)])

    @property
    def data_sets(self) -> Mapping[str, str]:
        """Hub datasets that it was trained on -> their commits."""
        hubs = [source.get("hub") for source in self.run.record.get("data") or ()]
        return {str(hub["name"]): str(hub["revision"]) for hub in hubs if hub}

    def data(self) -> str:
        sources = list(self.run.record.get("data") or ())
        if not sources:
            return ""
        rows = [(s["role"], f"`{_without_place(s['name'])}`", f"{s['rows']:,}", f"`{s['sha256']}`") for s in sources]
        parts = ["## Data", _table([("", "file", "rows", "SHA-256"), *rows])]
        parts += [f"`{name}` is a dataset on the hub, at revision `{commit}`." for name, commit in self.data_sets.items()]
        work, learned = self.run.record.get("work") or {}, self.run.learned
        if work.get("tokens"):
            longest = f"; the longest sequence has {work['longest']:,}" if work.get("longest") else ""
            parts.append(f"{work['tokens']:,} tokens per epoch{longest}.")
        if learned.get("looked_at"):
            few = f"{learned['suspects']:,} of {learned['looked_at']:,} training pairs look mislabelled."
            parts.append(few + " Their margin after the training is far below that of the others." * bool(learned["suspects"]))
        return "\n\n".join(parts)

    def training(self) -> str:
        """Time, hardware, and non-default settings as in an experiment file."""
        facts = [f"- {name}: {value}" for name, value in self._facts().items()]
        parts = ["## Training", "\n".join(facts), "Settings that differ from dpo-launcher's defaults:"]
        return "\n\n".join([*parts, f"```yaml\n{self._settings()}```"])

    def _facts(self) -> dict[str, str]:
        hardware, result = self.run.record.get("hardware") or {}, self.run.result
        gpus, ranks = hardware.get("gpus") or [], hardware.get("ranks") or 1
        many = "processes" if ranks > 1 else "process"
        seconds, whole, hours = result.get("train_seconds"), self.run.seconds, self.run.gpu_hours
        best = result.get("best_step")
        tokens = self.run.train.last("num_tokens") if len(self.run.train) else None
        found = {
            "hardware": f"{ranks} × {gpus[0]}" if gpus else f"CPU ({hardware.get('cores')} cores), {ranks} {many}",
            "time": seconds is not None and duration(seconds) + (f" (whole run {duration(whole)})" if whole else ""),
            "GPU hours": f"{hours:.2f}" if hours else "",
            "tokens trained on": f"{tokens:,.0f}" if tokens else "",
            "weights": f"those of step {best}, the best evaluation" if best and self.hyper.get("load_best_model_at_end") else "",
            "learning rate": f"{self.hyper.get('learning_rate')}, {self.hyper.get('lr_scheduler_type')}",
            "seed": str(self.hyper.get("seed")),
        }
        return {name: str(value) for name, value in found.items() if value}

    def _settings(self) -> str:
        key, settings = given(self.run)
        kept = {name: value for name, value in settings.items() if name not in _OWN}
        hyper = {name: value for name, value in (kept.get("hyperparameters") or {}).items() if name not in _OWN_HYPER}
        kept = {**kept, "model_name": self.base.name, **({"hyperparameters": hyper} if hyper else {})}
        kept = {"experiment_id": settings.get("experiment_id"), **_without_places(kept)}
        return str(yaml.safe_dump({key: kept}, sort_keys=False, allow_unicode=True, width=100))

    def repeating(self) -> str:
        """How to repeat the run, and the versions that it used."""
        key, code = str(self.run.record.get("key") or "experiment"), self.run.record.get("code") or {}
        lines = [f"launcher run {key} -f {key}.yml   # the settings above, with the paths of your data and model"]
        if (own := again(self.run)) is not None:
            lines.insert(0, f"{own}   # where the run's folder is")
        if code.get("revision"):
            lines.insert(0, f"git checkout {code['revision']}")
        changed = "The checkout had changes that no commit has." if code.get("dirty") else ""
        packages = ", ".join(f"{name} {version}" for name, version in (self.run.record.get("packages") or {}).items())
        made = f"dpo-launcher {code['version']}, " if code.get("version") else ""
        shell = "\n".join(["```sh", *lines, "```"])
        return "\n\n".join(filter(None, ["## Repeat it", shell, changed, packages and f"Versions: {made}{packages}."]))


def _of_sample(prompt: str, base: str, trained: str) -> tuple[tuple[str, str], ...]:
    return ("Prompt", prompt), ("Base", base), ("Trained", trained)


def _listed(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *others])


def _line(text: str) -> str:
    """``text`` in one line, escaped so that Markdown sees no HTML."""
    return html.escape(" ".join(text.split()), quote=False)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return _line(line if len(line) <= _TEXT else line[: _TEXT - 1] + "…") or "(empty)"


def _fenced(text: str) -> str:
    """``text`` unchanged, in a code block whose fence does not occur in it."""
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _without_place(name: str) -> str:
    """The last part of a path or address; a hub id or relative path is unchanged."""
    is_place = name.startswith(("/", "~", "s3://")) or ".." in name.split("/")
    return posixpath.basename(name.rstrip("/")) if is_place else name


def _of_adapter(name: str) -> str:
    """A hub id, the last part of a path, or for a run's folder ``adapter`` the run's name."""
    *_, above, last = "", *name.rstrip("/").split("/")
    return above if last == "adapter" and above else _without_place(name)


def _without_places(value: Any) -> Any:
    if isinstance(value, str):
        return _without_place(value)
    if isinstance(value, Mapping):
        return {name: _without_places(one) for name, one in value.items()}
    return [_without_places(one) for one in value] if isinstance(value, list | tuple) else value
