"""The rule of target_modules, on the names of a Llama and of a GPT-2."""

import pytest

from launcher.experiment.sections.targets import DIRECT, Modules, asked, wrong_targets

KINDS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
OTHERS = ("model", "model.layers", "model.norm", *(f"model.layers.{n}" for n in (0, 1)))
BLOCKS = tuple(f"model.layers.{n}.{name}" for n in (0, 1) for name in ("self_attn", "mlp", "input_layernorm"))
LLAMA = Modules(
    ("model.embed_tokens", *(f"model.layers.{n}.{kind}" for n in (0, 1) for kind in KINDS), "lm_head"),
    dict.fromkeys((*OTHERS, *BLOCKS), ""),
)
GPT2 = Modules(
    ("transformer.wte", *(f"transformer.h.0.{name}" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))),
)
PLACE = "hyperparameters.target_modules"


def told(targets: str | tuple[str, ...], modules: Modules = LLAMA) -> list[str]:
    return [str(mistake) for mistake in wrong_targets(targets, modules, "org/model")]


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        "ALL-LINEAR",
        ("q_proj", "down_proj"),
        ("layers.1.self_attn.q_proj",),
        ("embed_tokens", "lm_head"),
        r".*\.[qv]_proj",
    ],
)
def test_names_and_patterns_that_match_are_right(targets: str | tuple[str, ...]) -> None:
    assert told(targets) == []


def test_every_name_must_match_and_the_nearest_comes_first() -> None:
    assert told(("q_proj", "v_prj", "o_proj")) == [
        f"{PLACE}.1: 'v_prj' matches no module of org/model\n"
        "    expected: v_proj, q_proj, k_proj, o_proj, up_proj, gate_proj, down_proj, lm_head, embed_tokens\n"
        "    hint:     did you mean 'v_proj'?"
    ]


@pytest.mark.parametrize(
    ("name", "modules", "meant"),
    [
        ("query", LLAMA, "'q_proj'"),
        ("w2", LLAMA, "'down_proj'"),
        ("c_attn", LLAMA, "'q_proj', 'k_proj', 'v_proj'"),
        ("dense_h_to_4h", LLAMA, "'up_proj'"),
        ("q_proj", GPT2, "'c_attn'"),
        ("o_proj", GPT2, "'c_proj'"),
        ("up_proj", GPT2, "'c_fc'"),
        ("embed_tokens", GPT2, "'wte'"),
    ],
)
def test_a_name_of_another_model_is_understood(name: str, modules: Modules, meant: str) -> None:
    (text,) = told((name,), modules)
    assert text.endswith(f"\n    hint:     did you mean {meant}?")


def test_a_block_or_a_norm_is_no_target() -> None:
    assert told(("mlp", "input_layernorm")) == [
        f"{PLACE}.0: 'mlp' of org/model cannot be trained\n"
        "    expected: gate_proj, up_proj, down_proj\n"
        "    found:    model.layers.0.mlp: a block of several layers",
        f"{PLACE}.1: 'input_layernorm' of org/model cannot be trained\n"
        "    expected: embed_tokens, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head\n"
        "    found:    model.layers.0.input_layernorm: not a linear layer, an embedding or a convolution",
    ]
    assert told((), LLAMA) == []


def test_a_layer_that_no_adapter_can_train_is_refused_with_the_reason() -> None:
    mamba = Modules(("backbone.layers.0.mixer.in_proj",), {"backbone.layers.0.mixer.out_proj": DIRECT})
    (text,) = told(("out_proj", "in_proj"), mamba)
    assert text.endswith("found:    backbone.layers.0.mixer.out_proj: the model uses its weight directly, without an adapter")


@pytest.mark.parametrize(
    ("pattern", "end"),
    [
        ("q_proj", "hint:     write a list: [q_proj]"),
        ("q_proj,v_proj", "hint:     write a list: [q_proj, v_proj]"),
        ("[q_proj v_proj]", "hint:     write a list: [q_proj, v_proj]"),
        ("all_linear", "hint:     did you mean 'all-linear'?"),
        ("all", "hint:     did you mean 'all-linear'?"),
        ("v_prj", "hint:     did you mean 'v_proj'?"),
        (r"layers\.\d+\.q_proj", "or a pattern for whole names such as model.layers.0.self_attn.q_proj"),
    ],
)
def test_a_single_text_is_a_pattern_for_whole_names(pattern: str, end: str) -> None:
    (text,) = told(pattern)
    assert text.startswith(f"{PLACE}: the pattern {pattern!r} matches no module of org/model\n")
    assert text.endswith(end)


def test_a_pattern_that_also_matches_a_block_is_refused_as_peft_would() -> None:
    assert told(".*self_attn.*") == [
        f"{PLACE}: the pattern '.*self_attn.*' also matches model.layers.0.self_attn, which cannot be trained\n"
        "    expected: a pattern for layers only\n"
        "    found:    model.layers.0.self_attn: a block of several layers"
    ]
    (text,) = told("(q_proj")
    assert "'(q_proj' is not a valid pattern: missing )" in text


def test_all_linear_stands_alone() -> None:
    assert told(("all-linear",)) == [
        f"{PLACE}.0: all-linear is not the name of a module\n    hint:     write it alone: target_modules: all-linear"
    ]


def test_where_names_may_be_others_in_the_loaded_model_nothing_is_said() -> None:
    unsure = Modules(("layers.0.q_proj",), {}, frozenset({"gate_up_proj"}), ("", "model."))
    assert told(("gate_up_proj",), unsure) == []
    assert told(("model.layers.0.q_proj",), unsure) == []
    assert told(r"model\.layers\.0\.q_proj", unsure) == []
    assert told(r".*\.gate_up_proj", unsure) == []
    assert len(told(("up_proj",), unsure)) == 1


def test_what_is_asked_for_is_every_module_of_the_names() -> None:
    assert asked(("q_proj", "layers.1.mlp.up_proj"), LLAMA) == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj",
    ]  # fmt: skip
    assert asked(r".*1\..*\.k_proj", LLAMA) == ["model.layers.1.self_attn.k_proj"]
