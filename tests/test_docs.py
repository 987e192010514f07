"""README and docs: what they tell people to type works, what they show is what is printed, and every link leads somewhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from docs.generate import cards, keys, pictures, reference, terminal
from docs.generate.blocks import Block, Checkout, blocks, pages, renew
from docs.generate.pages import DOCS, README, ROOT, with_part
from launcher.cli import launcher
from launcher.experiment.files import load, read_env
from launcher.experiment.schema import Experiment, StorageConfig
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.why import explain
from tests.launcher.why.played import pending, seen

PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
REWRITE = bool(os.environ.get("REWRITE_GOLDEN"))

# These read files and print: they run. Others train, build, upload or ask a cluster: their command line is parsed.
CHEAP = "check*|show*|list*|plan*|render*|init*|ps*|diff*"
LAUNCHER = f"""#!/bin/sh
case "$*" in
    ps*--cluster* | "plan RUN"*) ;;
    {CHEAP}) exec "{sys.executable}" -m launcher "$@" ;;
esac
printf '%s\\037' "$@" >> "$CALLS"
echo >> "$CALLS"
"""
MAKE = '#!/bin/sh\nexec "$MAKE_PROGRAM" -n "$@" > /dev/null\n'
GIT = '#!/bin/sh\n[ "$1" = clone ] && ln -sfn . "$(basename "$2" .git)"\n'
NOTHING = "#!/bin/sh\n"
OF_OTHERS = ("kubectl", "docker", "sudo", "jq", "k3s", "nvidia-ctk")


def of(page: Path, *languages: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in languages]


def all_of(*languages: str) -> Any:
    found = [block for page in pages() for block in of(page, *languages)]
    return pytest.mark.parametrize("block", found, ids=str)


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.read_text().splitlines()) <= 200


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    paths = [page.relative_to(DOCS).as_posix() for page in DOCS.glob("*/*") if page.suffix in (".md", ".ipynb")]
    assert [path for path in paths if f"({path})" not in index] == []


# --- Commands


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with a ``launcher`` on the path, and other programs that do nothing."""
    home, tools = tmp_path / "checkout", tmp_path / "bin"
    home.mkdir()
    tools.mkdir()
    programs = {"launcher": LAUNCHER, "make": MAKE, "git": GIT, **dict.fromkeys(OF_OTHERS, NOTHING)}
    for name, text in programs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    checkout = Checkout(home)
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "activate").write_text(f'PATH="{tools}:$PATH"\n')
    (home / ".venv" / "bin" / "python").symlink_to("/bin/true")
    return checkout


@PAGES
def test_commands_run_in_the_order_of_the_page(page: Path, checkout: Checkout) -> None:
    calls, tools = checkout.folder.parent / "calls", checkout.folder.parent / "bin"
    env = {**checkout.env, "CALLS": str(calls), "MAKE_PROGRAM": "/usr/bin/make", "EDITOR": "true"}
    env["PATH"] = f"{tools}:{env['PATH']}"
    for block in blocks(page):
        checkout.save(block)
        if block.language == "sh":
            script = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(script, cwd=checkout.folder, env=env, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    for line in calls.read_text().splitlines() if calls.exists() else ():
        parse(line.split("\037")[:-1])


@PAGES
def test_commands_amid_a_sentence_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for span in spans(page):
        if not span.startswith(("launcher", "make")):
            continue  # also a message with half a quotation
        name, *args = shlex.split(span.replace("…", "").strip() or "-")
        args = [arg for arg in args if arg not in ("COMMAND", "--help")]
        if name == "launcher" and args:
            try:
                parse(args)
            except click.MissingParameter:
                pass  # a command by its name alone
            except click.BadOptionUsage:
                if not span.endswith("…"):
                    raise
        if name == "make" and args:
            assert args[0] in targets, f"{page.name}: `{span}`"


@PAGES
def test_keys_amid_a_sentence_exist(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(r"(hyperparameters|launch|health|storage_config)(\.[a-z_0-9]+)+", span):
            known = keys.paths(Experiment)
            assert span in known or span.rpartition(".")[0] in known, f"{page.name}: `{span}` is no key of an experiment"


@all_of("console")
def test_what_is_shown_is_what_is_printed(block: Block, tmp_path: Path) -> None:
    if REWRITE:
        renew(block.page)
        return
    checkout = Checkout(tmp_path)
    for earlier in blocks(block.page):
        checkout.save(earlier)
    assert checkout.printed(block) == block.text, f"{block}: `make docs` writes it again"


def test_the_example_of_a_pending_run_is_what_why_prints() -> None:
    message = "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {dedicated: other}."
    found = explain(seen(pods=(pending(message),), gpus=8))
    assert f"why         {found.sentence}\nwhat to do  {found.suggestion}\n" in (DOCS / "how-to" / "cluster.md").read_text()


def parse(args: list[str], command: click.Command = launcher) -> None:
    """Raises click's errors for a command line that the launcher would refuse."""
    if isinstance(command, click.Group):
        assert args, f"{command.name} needs a command"
        assert args[0] in command.commands, f"no command {args[0]!r}"
        parse(args[1:], command.commands[args[0]])
    else:
        command.make_context(command.name, list(args), parent=click.Context(launcher, **launcher.context_settings))


def spans(page: Path) -> list[str]:
    """The code spans of a page's sentences."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


# --- YAML and .env


@all_of("yaml")
def test_yaml_is_an_experiment_file_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    """A mapping with an experiment_id makes a file of experiments; other keys belong to one experiment."""
    if "learning_rate: 2e-5\n    lora_dropuot" in block.text:
        return  # the page shows its mistake
    held = yaml.safe_load(block.text)
    file = tmp_path / "experiments.yml"
    experiments = [key for key, value in held.items() if isinstance(value, dict) and "experiment_id" in value]
    if experiments:
        file.write_text(block.text)
        for key in experiments:
            load(key, root=tmp_path, file=file)
        return
    assert set(held) <= set(Experiment.model_fields), f"{block}: no keys of an experiment"
    base = {"experiment_id": "part", "model_name": "Qwen/Qwen3-0.6B", "datasets_path": "data"}
    file.write_text(yaml.safe_dump({"part": {**base, **held}}))
    load("part", root=tmp_path, file=file)


@all_of("dotenv")
def test_an_environment_file_is_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(block.text)
    names = [line.split("=")[0] for line in block.text.splitlines()]
    assert set(names) <= set(read_env(tmp_path))


# --- Python


@all_of("python")
def test_python_uses_names_that_exist(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    compile(tree, str(block), "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            for alias in node.names:
                assert has_name(node.module, alias.name), f"{block}: {node.module} has no {alias.name}"
        if isinstance(node, ast.Call):
            wrong = [keyword.arg for keyword in node.keywords if keyword.arg and keyword.arg not in keywords_of(node)]
            assert wrong == [], f"{block}: {ast.unparse(node.func)} takes no {wrong}"


def has_name(module: str, name: str) -> bool:
    """A library that takes seconds to import is only read."""
    if module.split(".")[0] in ("launcher", "trainer"):
        return hasattr(importlib.import_module(module), name)
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module  # noqa: PT018
    folder = Path(spec.origin).parent
    return any(f"class {name}" in path.read_text() for path in [*folder.glob("*.py"), *folder.glob("models/auto/*.py")])


def keywords_of(call: ast.Call) -> Any:
    from trainer import DPOTrainer, YamlConfigLoader

    methods = {"load": YamlConfigLoader.load, "train": DPOTrainer.train, "save_model": DPOTrainer.save_model}
    match call.func:
        case ast.Name("DPOTrainer"):
            hyper = next((keyword.value for keyword in call.keywords if keyword.arg == "hyperparameters"), None)
            if isinstance(hyper, ast.Dict):
                assert {ast.literal_eval(key) for key in hyper.keys if key} <= set(Hyperparameters.model_fields)
            return {*Experiment.model_fields, "key"}
        case ast.Name("StorageConfig"):
            return StorageConfig.model_fields
        case ast.Name("YamlConfigLoader"):
            return inspect.signature(YamlConfigLoader).parameters
        case ast.Attribute(attr=name) if name in methods:
            return inspect.signature(methods[name]).parameters
    return [keyword.arg for keyword in call.keywords]


def test_the_loaders_line_of_the_readme_runs(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (line,) = [
        line for block in of(README, "python") for line in block.text.splitlines() if line.startswith("config = YamlConfigLoader")
    ]
    script = f"from trainer import DPOTrainer, YamlConfigLoader\n{line}\nprint(DPOTrainer(**config).experiment.model_name)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=checkout.env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "Qwen/Qwen3-0.6B", done.stderr


# --- Links and what a program writes


@PAGES
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert there.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


def anchors(page: Path) -> Iterator[str]:
    """The names that GitHub gives to headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    ("page", "name", "written"),
    [
        (README, "cards", cards.table),
        *((reference.REFERENCE / page, name, written) for page, name, written in reference.PARTS),
    ],
    ids=["cards", *(name for _, name, _ in reference.PARTS)],
)
def test_what_a_program_writes_is_current(page: Path, name: str, written: Any) -> None:
    text = page.read_text()
    if REWRITE:
        page.write_text(with_part(text, name, written()))
    assert page.read_text() == with_part(page.read_text(), name, written()), "`make docs` writes it again"


def test_the_picture_is_drawn_from_what_the_demo_printed() -> None:
    assert terminal.PICTURE.read_text() == terminal.svg(terminal.RECORD.read_text()), "`make pictures` draws it again"
    assert str(ROOT) not in terminal.PICTURE.read_text()


def test_the_figure_of_a_packed_row_is_drawn_from_a_real_row() -> None:
    from docs.generate import packed

    assert packed.PICTURE.read_text() == packed.svg(packed.LIGHT), "`make pictures` draws it again"
    assert "44 tokens" in packed.PICTURE.read_text()
    assert "25 tokens" in packed.PICTURE.read_text()


def test_the_tutorial_shows_the_commands_that_are_recorded() -> None:
    text = pictures.TUTORIAL.read_text()
    for command in pictures.RECORDED.values():
        parse(shlex.split(command)[1:])
        assert f"```text\n$ {command}\n" in text
    for name in ("report", "tutorial-report", "data-page"):
        for file in (f"{name}.webp", f"{name}-dark.webp"):
            assert (DOCS / "images" / file).stat().st_size <= pictures.LARGEST
