import json

import pytest

from launcher.runs.follow import LINES_OF_A_RUN, Metric, Reader, Text, is_shown, parse, short


def line(kind: str = "train", step: int = 1, total: int | None = 165, **values: object) -> str:
    return json.dumps({"type": kind, "step": step, "total_steps": total, **values})


def events(*pieces: str, pairs_a_step: int | None = None) -> list[object]:
    reader = Reader(pairs_a_step)
    found = [event for piece in pieces for event in reader.feed(piece)]
    return [*found, *reader.close()]


def test_lines_end_at_newline_and_carriage_return_wherever_the_pieces_are_cut():
    text = "one\r\ntwo\rthree\n\nfour"
    expected = [Text("one"), Text("two"), Text("three"), Text(""), Text("four")]
    assert events(text) == expected
    for cut in range(len(text)):
        assert events(text[:cut], text[cut:]) == expected
    assert events(*text) == expected


def test_a_metric_line_that_comes_in_two_pieces_is_one_metric():
    whole = line(loss=0.5)
    assert [type(event) for event in events(whole[:10], whole[10:] + "\n")] == [Metric]


@pytest.mark.parametrize("text", ["plain", "{not json", '{"type": "other", "step": 1}', '{"type": "train"}', '["a"]', "{}"])
def test_anything_else_is_text(text):
    assert parse(text) is None
    assert events(text + "\n") == [Text(text)]


def test_short_lines():
    values = {"loss": 0.65123, "rewards/margins": 0.0431, "rewards/accuracies": 0.75, "learning_rate": 4.9e-6}
    eval_values = {f"eval_{name}": value for name, value in values.items() if name != "learning_rate"}
    metrics = [
        line(step=12, **values),
        line("eval", step=50, **eval_values),
        line("summary", step=165, seconds=41.234, loss=0.5),
        line(step=3, total=None, loss="nan"),
    ]
    assert [short(parse(text)) for text in metrics] == [
        "step  12/165  loss 0.6512  margin +0.043  accuracy 0.75  lr 4.90e-06",
        "step  50/165  eval  loss 0.6512  margin +0.043  accuracy 0.75",
        "trained 165/165 steps  41.2 s  loss 0.5000",
        "step 3  loss nan",
    ]


def test_a_line_without_rewards_shows_how_many_tokens_the_model_ranks_first():
    metrics = [line(step=12, loss=2.5, mean_token_accuracy=0.4567, learning_rate=2e-4)]
    metrics += [line("eval", step=50, eval_loss=2.25, eval_mean_token_accuracy=0.5)]
    assert [short(parse(text)) for text in metrics] == [
        "step  12/165  loss 2.5000  token accuracy 0.457  lr 2.00e-04",
        "step  50/165  eval  loss 2.2500  token accuracy 0.500",
    ]
    with_rewards = parse(line(step=1, loss=0.5, mean_token_accuracy=0.4, **{"rewards/margins": 0.0}))
    assert "token" not in short(with_rewards)


def test_what_rounds_to_zero_has_no_minus_sign():
    text = line(step=1, total=9, loss=-0.00001, **{"rewards/margins": -2e-7, "rewards/accuracies": 0.0})
    assert short(parse(text)) == "step 1/9  loss 0.0000  margin +0.000  accuracy 0.00"


def test_pairs_a_second_are_counted_between_training_lines_only():
    lines = [
        line(step=1, seconds=10),
        line(step=3, seconds=12),
        line("eval", step=3),
        line(step=4, seconds=90),
        line(step=5, seconds=91),
    ]
    found = events(*(text + "\n" for text in lines), pairs_a_step=8)
    assert [event.rate for event in found] == [None, 8.0, None, None, 8.0]


@pytest.mark.parametrize("total", [3, 25, 165, 10_000])
def test_a_plain_stream_shows_the_first_the_last_and_about_25_lines_between(total):
    shown, before = [], None
    for step in range(1, total + 1):
        metric = parse(line(step=step, total=total))
        if is_shown(metric, before):
            shown.append(step)
            before = metric
    assert shown[0] == 1
    assert shown[-1] == total
    assert min(total, LINES_OF_A_RUN) <= len(shown) <= LINES_OF_A_RUN + 2


def test_every_evaluation_is_shown():
    before = parse(line(step=10, total=1000))
    assert is_shown(parse(line("eval", step=10, total=1000)), before)
