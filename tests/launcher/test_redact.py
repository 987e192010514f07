"""What is secret is hidden, in whatever spelling, and nothing else is."""

from __future__ import annotations

import base64
import io
import json
from urllib.parse import quote

import pytest

from launcher.redact import RedactedStream, Redactor

KEY = (
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n"
)


def redactor(*names: str, **environment: str) -> Redactor:
    learned = Redactor()
    learned.learn(environment, names)
    return learned


def test_a_value_is_secret_by_the_name_of_its_variable() -> None:
    hide = redactor(HF_TOKEN="a-token-of-mine", AWS_SECRET_KEY="wJalr/XUtn+FEMI", HOME="a-home-of-mine")
    assert hide.text("a-token-of-mine and wJalr/XUtn+FEMI at a-home-of-mine") == (
        "[hidden: HF_TOKEN] and [hidden: AWS_SECRET_KEY] at a-home-of-mine"
    )


def test_a_name_under_launch_secrets_is_secret_whatever_it_is() -> None:
    assert redactor("LOGIN", LOGIN="anna:geheim").text("as anna:geheim") == "as [hidden: LOGIN]"


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text,
        lambda text: json.dumps(text),
        lambda text: repr(text),
        lambda text: quote(text, safe=""),
        lambda text: base64.b64encode(text.encode()).decode(),
    ],
)
def test_a_secret_is_found_in_every_spelling_that_logs_have(written) -> None:  # type: ignore[no-untyped-def]
    secret = 'pass"wörd/with+all\tof it'
    shown = redactor(DB_PASSWORD=secret).text(f"<{written(secret)}>")
    assert "[hidden: DB_PASSWORD]" in shown
    assert "with" not in shown


@pytest.mark.parametrize(
    "given",
    [
        KEY,
        KEY.replace("\n", "\\n"),
        '"' + KEY.strip().replace("\n", "\\n") + '"',
        KEY.replace("\n", "\r\n"),
        KEY.replace("\n", "\\r\\n"),
        KEY.replace("\n", " "),
        json.dumps({"type": "service_account", "private_key": KEY}),
        KEY[:120],
    ],
)
def test_a_key_is_hidden_whole_and_line_by_line(given: str) -> None:
    hide = redactor(GOOGLE_SHEETS_PRIVATE_KEY=given)
    assert "MII" not in hide.text(f"cannot load {KEY}")
    assert "BKcw" not in hide.text("at line 2: BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj is odd")
    assert "BKcw" not in hide.text(json.dumps({"key": KEY}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId>", "<AWSAccessKeyId>[hidden]</AWSAccessKeyId>"),
        ("token hf_abcdefghijABCDEFGHIJ1234 is refused", "token [hidden] is refused"),
        ("https://anna:geheim@minio.example:9000/b", "https://[hidden]@minio.example:9000/b"),
        ("GET /k?X-Amz-Signature=0a1b2c&x=1", "GET /k?X-Amz-[hidden]&x=1"),
        ("Authorization: Bearer ya29.abc", "Authorization: [hidden]"),
        ("post to https://hooks.slack.com/services/T0AB/B0CD/x1Y2z3W4", "post to https://hooks.slack.com/[hidden]"),
        ("WebhookError at hooks.slack.com/workflows/T0/A0/77/abcDEF.", "WebhookError at hooks.slack.com/[hidden]."),
        (KEY, "[hidden]\n"),
        (KEY[:60], "[hidden]"),
    ],
)
def test_what_no_variable_holds_is_known_by_its_form(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "step 20/40  eval  loss 0.2291  margin +1.634  accuracy 0.96",
        "Qwen/Qwen3-0.6B@c1899de289a04d12100db370d81485cdf75e47ca: 81,857 tokens a pass",
        "http://127.0.0.1:6006/#scalars and user@example.com",
        "sha256:3fe16b12aa0c3b5d5f5f1f0c4bb2a1f7",
    ],
)
def test_what_is_not_secret_stays(text: str) -> None:
    assert redactor(TOKENIZERS_PARALLELISM="false", DPO_SECRETS="/run/secrets", API_KEY="abc").text(text) == text


def test_a_variable_that_says_where_a_secret_lies_is_no_secret(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "token.json"
    file.touch()
    hide = redactor(GOOGLE_APPLICATION_CREDENTIALS=str(file), AWS_WEB_IDENTITY_TOKEN_FILE="/var/run/token")
    assert hide.text(f"{file} /var/run/token") == f"{file} /var/run/token"


def test_the_keys_of_trackers_are_secrets() -> None:
    keys = {name: f"key-of-{name}" for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")}
    assert redactor(**keys).text(" ".join(keys.values())) == " ".join(f"[hidden: {name}]" for name in keys)


def test_the_address_of_a_webhook_is_a_secret_and_that_of_a_server_is_not() -> None:
    hide = redactor(
        SLACK_WEBHOOK_URL="https://chat.example/hooks/x1Y2", TEAM_WEBHOOK="https://b.example/77", HF_TOKEN_URL="https://c"
    )
    assert hide.text("https://chat.example/hooks/x1Y2 https://b.example/77 https://c") == (
        "[hidden: SLACK_WEBHOOK_URL] [hidden: TEAM_WEBHOOK] https://c"
    )


def test_the_names_of_a_mapping_stay_and_its_texts_are_redacted_at_any_depth() -> None:
    hide = redactor(HF_TOKEN="a-token-of-mine")
    assert hide.value({"a-token-of-mine": [1, {"x": "is a-token-of-mine"}], "n": None}) == {
        "a-token-of-mine": [1, {"x": "is [hidden: HF_TOKEN]"}],
        "n": None,
    }


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    hide = redactor(A_TOKEN="abcdef", B_TOKEN="abcdefghij")
    assert hide.text("abcdefghij") == "[hidden: B_TOKEN]"


def test_a_stream_writes_redacted_and_is_otherwise_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    below = io.StringIO()
    stream = RedactedStream(below)
    stream.writelines(["one AKIAIOSFODNN7EXAMPLE\n", "two\n"])
    assert below.getvalue() == "one [hidden]\ntwo\n"
    assert not stream.isatty()
