"""Recipes keep what their names tell: each fits into every GPU of its size, needs that size, and has the plan that it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

from docs.generate.pages import with_part
from docs.generate.recipes import PAGE, table, with_head
from launcher.errors import UsageError
from launcher.experiment.explain.json_schema import json_schema
from launcher.experiment.files import load, read_files
from launcher.experiment.schema import Experiment
from launcher.planning import recipes as planned_recipes
from launcher.planning.machines.gpus import GPUS, Gpu
from launcher.planning.recipes import Recipe, fitting, matching, recipes
from launcher.planning.sizes.model_config import ModelConfig

MODELS = Path(__file__).parents[2] / "configs" / "models"
SIZES = (6, 8, 12, 16, 24, 48, 80)  # GB of the cards that people have; none has a recipe for 6
# As the models' pages on the hub count them.
PARAMETERS = {
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "allenai/OLMo-2-0425-1B-Instruct": 1_484_916_736,
    "allenai/Olmo-3-7B-Instruct": 7_298_011_136,
    "google/gemma-3-1b-it": 999_885_952,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
}
EACH = pytest.mark.parametrize("name", matching(""))


@cache
def every() -> Mapping[str, Recipe]:
    return {one.name: one for one in recipes()}


def cards(size: int) -> Sequence[Gpu]:
    """The GPUs that are sold with ``size`` GB, the smallest first: an L4 of 24 GB has 22.5 GiB."""
    found = [gpu for gpu in GPUS if 0.93 * size <= gpu.memory / 2**30 <= 1.03 * size]
    return sorted(found, key=lambda gpu: gpu.memory) or [Gpu(f"{size} GB", size * 2**30, None)]


def fits_its_size(recipe: Recipe) -> bool:
    """Whether the smallest and the largest card of its size have room for the longest pairs."""
    there = cards(recipe.gigabytes)
    return all(recipe.on(gpu).fits for gpu in (there[0], there[-1]))


def needs_its_size(recipe: Recipe) -> bool:
    """Whether every card of the next smaller size is too small, or must recompute activations where its own need not."""
    own, below = recipe.on(cards(recipe.gigabytes)[0]), recipe.on(cards(SIZES[SIZES.index(recipe.gigabytes) - 1])[-1])
    return not below.fits or (below.estimate.recompute and not own.estimate.recompute)


@cache
def schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


@EACH
def test_a_recipe_fits_every_card_of_its_size_and_needs_it(name: str) -> None:
    recipe = every()[name]
    assert (fits_its_size(recipe), needs_its_size(recipe)) == (True, True)


@EACH
def test_a_recipe_is_one_experiment_as_its_name_tells(name: str) -> None:
    recipe = every()[name]
    contents = read_files(file=recipe.file)
    assert ([one.key for one in contents.found], contents.warnings, contents.mistakes) == ([recipe.name], (), {})
    loaded = load(None, file=recipe.file)
    h, launch = loaded.experiment.hyperparameters, loaded.experiment.launch
    method = "full" if h.full_finetuning else "QLoRA" if h.load_in_4bit else "LoRA"
    assert (loaded.experiment.experiment_id, method) == (recipe.name, recipe.method)
    assert (launch.nodes, launch.gpus) == (recipe.nodes, recipe.gpus)
    assert (h.trust_remote_code, loaded.notices) == (False, ())
    assert recipe.plan.estimate.notes in ((), ("plain path: prompts are computed twice, and sequences are padded",))
    schema().validate(yaml.safe_load(recipe.text))


@EACH
def test_the_plan_that_a_recipe_shows_is_the_one_that_is_made(name: str) -> None:
    recipe = every()[name]
    assert with_head(recipe) == recipe.text, "make docs"
    assert recipe.head in recipe.text.splitlines()


def test_the_page_has_the_same_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_part(page, "recipes", table()) == page, "make docs"


def test_a_name_that_promises_too_much_or_too_little_is_found() -> None:
    honest = every()["qwen3-8b-lora-24gb"]
    assert (fits_its_size(honest), needs_its_size(honest)) == (True, True)
    assert not fits_its_size(replace(honest, gigabytes=16))
    assert not needs_its_size(replace(honest, gigabytes=48))
    longer = honest.experiment.model_dump(mode="json", exclude_unset=True)
    longer["hyperparameters"]["max_seq_length"] = 4096
    assert not fits_its_size(replace(honest, experiment=Experiment.parse(longer)))


def test_the_recipes_cover_models_cards_methods_and_machines() -> None:
    assert {one.experiment.model_name for one in every().values()} == set(PARAMETERS)
    assert {one.gigabytes for one in every().values()} == set(SIZES[1:])
    assert {one.method for one in every().values()} == {"LoRA", "QLoRA", "full"}
    assert {one.devices for one in every().values()} == {"1", "2", "8", "4 × 8"}
    selectors = [one.experiment.launch.kubernetes.node_selector for one in every().values() if one.nodes > 1]
    assert [dict(selector) for selector in selectors] == [{"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}]


def test_gated_models_name_the_token_that_they_need() -> None:
    gated = [one for one in every().values() if one.experiment.model_name.split("/")[0] in ("google", "meta-llama")]
    named = [
        one for one in every().values() if one.experiment.launch.secrets == ("HF_TOKEN",) and "put HF_TOKEN into .env" in one.text
    ]
    assert [one.name for one in gated] == [one.name for one in named] != []


def test_the_checked_in_sizes_make_the_parameters_that_the_hub_counts() -> None:
    found = {name: json.loads((MODELS / name / "config.json").read_text(encoding="utf-8")) for name in PARAMETERS}
    assert {name: ModelConfig.parse(config).parameters for name, config in found.items()} == PARAMETERS


def test_a_name_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the name <model>-"):
        Recipe.read(tmp_path / "qwen3-0.6b.yml")


def test_without_recipes_as_in_an_image_a_plan_names_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    too_small = every()["qwen3-8b-lora-24gb"].on(cards(8)[0])
    assert fitting(too_small) == []
    monkeypatch.setattr(planned_recipes, "__file__", str(tmp_path / "launcher" / "planning" / "recipes.py"))
    assert fitting(too_small) == []
    with pytest.raises(UsageError, match="unknown recipe 'qwen3'; list them with"):
        matching("qwen3")
