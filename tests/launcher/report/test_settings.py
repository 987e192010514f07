"""How a comparison writes a setting's value."""

from __future__ import annotations

from launcher.report.settings import shown


def test_a_long_list_of_modules_is_its_kinds_and_its_number() -> None:
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj")
    modules = [f"model.layers.{layer}.self_attn.{kind}" for layer in range(2) for kind in kinds]
    assert shown(modules) == "q_proj, k_proj, v_proj, o_proj (8 names)"
    assert shown([f"m.{number}.w{number}" for number in range(9)]) == "w0, w1, w2, w3, w4, w5, w6 … (9 names)"
    assert shown(["q_proj", "v_proj"]) == "q_proj, v_proj"
    assert shown([]) == "none"
