"""What the emulator answers when it refuses: a Status object, worded as an API server words it."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer that is no object."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None):
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}

    @property
    def status(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def not_found(resource: str, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})


def no_such_page() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def exists(resource: str, name: str) -> Refusal:
    return Refusal(409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name, "kind": resource})


def conflict(resource: str, name: str, why: str) -> Refusal:
    return Refusal(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}')


def forbidden(resource: str, name: str, why: str) -> Refusal:
    return Refusal(403, "Forbidden", f'{resource} "{name}" is forbidden: {why}' if name else f"{resource} is forbidden: {why}")


def invalid(kind: str, name: str, problems: list[str]) -> Refusal:
    listed = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    return Refusal(422, "Invalid", f'{kind} "{name}" is invalid: {listed}', {"name": name, "kind": kind})


def expired(message: str = "too old resource version") -> Refusal:
    return Refusal(410, "Expired", message)
