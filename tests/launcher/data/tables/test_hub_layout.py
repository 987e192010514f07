"""Which files are which split, by the rules of the hub and of the library datasets."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.data.tables.hub_layout import Layout, layout_of

SHARDS = [f"data/{split}-{n:05d}-of-00002.parquet" for split in ("train_prefs", "test_prefs") for n in (1, 0)]


def test_shards_are_splits_by_the_name_before_their_number_and_in_order() -> None:
    found = layout_of(["README.md", ".gitattributes", "dataset_infos.json", *SHARDS], None, None)
    assert found.config == "default"
    assert found.splits == {
        "test_prefs": (SHARDS[3], SHARDS[2]),
        "train_prefs": (SHARDS[1], SHARDS[0]),
    }
    hashed = layout_of(["data/train-00000-of-00001-b42a775f407cee45.parquet"], None, None)
    assert list(hashed.splits) == ["train"]


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["train.jsonl", "test.jsonl"], {"train": ("train.jsonl",), "test": ("test.jsonl",)}),
        (["my_train_1.csv", "dev.csv"], {"train": ("my_train_1.csv",), "validation": ("dev.csv",)}),
        (["train/a.csv", "train/b.csv", "eval/a.csv"], {"train": ("train/a.csv", "train/b.csv"), "test": ("eval/a.csv",)}),
        (["pairs.jsonl", "more.jsonl", "example.csv"], {"train": ("more.jsonl", "pairs.jsonl")}),
        (["constraints.csv"], {"train": ("constraints.csv",)}),
        (["eval/0000.parquet", "train/0000.parquet"], {"eval": ("eval/0000.parquet",), "train": ("train/0000.parquet",)}),
    ],
)
def test_other_files_are_splits_by_words_in_their_names_and_folders(files: list[str], splits: dict[str, Any]) -> None:
    assert layout_of(files, None, None).splits == splits


def test_a_card_names_configs_and_patterns() -> None:
    card = {
        "configs": [
            {
                "config_name": "small",
                "data_files": [{"split": "train", "path": "s/*.csv"}, {"split": "held", "path": ["s/x/*.csv"]}],
            },
            {"config_name": "large", "default": True, "data_files": {"train": "l/**"}},
            {"config_name": "list", "data_files": ["s/a.csv", "l/a.csv"]},
            {"config_name": "folder", "data_dir": "l"},
        ]
    }
    files = ["s/a.csv", "s/b.csv", "s/x/c.csv", "l/a.csv", "l/test.csv"]
    assert layout_of(files, card, "small").splits == {"train": ("s/a.csv", "s/b.csv"), "held": ("s/x/c.csv",)}
    assert layout_of(files, card, None).splits == {"train": ("l/a.csv", "l/test.csv")}
    assert layout_of(files, card, "list").splits == {"train": ("l/a.csv", "s/a.csv")}
    assert layout_of(files, card, "folder").splits == {"test": ("l/test.csv",)}
    assert layout_of(files, card, "else") == Layout(("small", "large", "list", "folder"), None, {})
    del card["configs"][1]["default"]
    assert layout_of(files, card, None).config is None


def test_folders_are_configs_where_no_card_names_them() -> None:
    files = ["harmless/train.jsonl.gz", "harmless/test.jsonl.gz", "helpful/train.jsonl.gz"]
    assert layout_of(files, None, "harmless").splits == {"train": (files[0],), "test": (files[1],)}
    missing = layout_of(files, None, "else")
    assert (missing.config, missing.configs) == (None, ("harmless", "helpful"))
    several = layout_of(["a/train/0000.parquet", "b/train/0000.parquet"], None, None)
    assert (several.config, several.configs) == (None, ("a", "b"))
