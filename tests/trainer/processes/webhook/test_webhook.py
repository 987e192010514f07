from __future__ import annotations

import json
import threading

import pytest

from launcher.errors import Warned
from tests.webhook import SECRET, hook
from trainer.processes.webhook import webhook
from trainer.processes.webhook.webhook import Outbox, Webhook


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.01, 0.01))


def test_a_server_gets_the_fields_and_the_text_as_json() -> None:
    with hook() as server:
        assert Webhook("HOOK", {"HOOK": server.url}).send("r is done", {"event": "done", "exit_code": 0}) is None
        assert server.taken == [{"event": "done", "exit_code": 0, "text": "r is done"}]


@pytest.mark.parametrize(
    ("url", "is_slack"),
    [
        ("https://hooks.slack.com/services/T0/B0/xyz", True),
        ("https://hooks.slack-gov.com/services/T0/B0/xyz", True),
        ("https://discord.com/api/webhooks/1/xyz/slack", True),
        ("https://slack.example.com/hook", False),
        ("https://example.com/?to=hooks.slack.com", False),
    ],
)
def test_slacks_form_is_known_by_the_address(url: str, is_slack: bool) -> None:
    assert Webhook("HOOK", {"HOOK": url}).is_slack is is_slack


def test_slack_gets_the_text_alone_with_its_three_characters_escaped() -> None:
    with hook() as server:
        assert Webhook("HOOK", {"HOOK": f"{server.url}/slack"}).send("loss < 0.1 & <fine>", {"event": "done"}) is None
        assert server.taken == [{"text": "loss &lt; 0.1 &amp; &lt;fine&gt;"}]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_once_is_asked_again(status: int) -> None:
    with hook(status) as server:
        assert Webhook("HOOK", {"HOOK": server.url}).send("x", {}) is None
        assert server.taken == [{"text": "x"}] * 2


def test_after_three_tries_the_warning_names_the_variable_and_not_the_address() -> None:
    with hook(500, 502, 503) as server:
        wrong = Webhook("HOOK", {"HOOK": server.url}).send("x", {})
        assert (wrong, type(wrong)) == ("notification not sent: HOOK: the server answered HTTP 503 (3 tries)", Warned)
        assert len(server.taken) == 3


@pytest.mark.parametrize("status", [302, 307, 400, 404, 410])
def test_an_answer_that_stays_the_same_is_not_asked_for_again_and_no_redirect_is_followed(status: int) -> None:
    with hook(status) as server:
        assert Webhook("HOOK", {"HOOK": server.url}).send("x", {}) == (
            f"notification not sent: HOOK: the server answered HTTP {status}"
        )
        assert len(server.taken) == 1


def test_a_server_that_is_away_is_a_warning() -> None:
    with hook() as server:
        url = server.url
    wrong = Webhook("HOOK", {"HOOK": url}).send("x", {})
    assert wrong == "notification not sent: HOOK: connection refused (3 tries)"


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(webhook, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/{SECRET}"
        assert Webhook("HOOK", {"HOOK": url}).send("x", {}) == "notification not sent: HOOK: timeout (3 tries)"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "notify: HOOK is not set in .env or the environment"),
        ("not-an-address", "notify: the value of HOOK must be an address that begins with https:// or http://"),
        ("http://[broken/x", "notify: the value of HOOK must be an address that begins with https:// or http://"),
        ("http://127.0.0.1:9/planted path", "HOOK: its value is not a valid address"),
    ],
)
def test_a_value_that_is_no_address_is_a_warning_that_does_not_show_it(value: str, why: str) -> None:
    assert Webhook("HOOK", {"HOOK": value}).send("x", {}) == f"notification not sent: {why}"


def test_secrets_do_not_leave_in_a_message() -> None:
    with hook() as server:
        env = {"HOOK": server.url}
        assert Webhook("HOOK", env).send(f"see {server.url}", {"sentence": ["hf_" + "a" * 30, server.url]}) is None
        assert server.taken == [{"sentence": ["[hidden]", "[hidden: HOOK]"], "text": "see [hidden: HOOK]"}]
        assert SECRET not in json.dumps(server.taken)


def test_a_proxy_of_the_environment_is_used() -> None:
    with hook() as proxy:
        env = {"HOOK": "http://hooks.invalid/x", "http_proxy": f"http://127.0.0.1:{proxy.server_port}"}
        assert Webhook("HOOK", env).send("x", {}) is None
        assert proxy.taken == [{"text": "x"}]


def test_an_outbox_sends_in_order_without_making_anybody_wait() -> None:
    outbox, gate, sent = Outbox(), threading.Event(), []

    def fail() -> None:
        raise OSError

    outbox.put(lambda: sent.append(gate.wait(60)))
    outbox.put(fail)
    outbox.put(lambda: sent.append("second"))
    assert sent == [], "who puts has not waited"
    assert not outbox.wait(0.01)
    gate.set()
    assert outbox.wait(60)
    assert sent == [True, "second"]
    outbox.put(lambda: sent.append("later"))
    assert outbox.wait(60)
    assert sent == [True, "second", "later"]
