"""The command line: parses arguments, calls one function of another room, prints the result. Only this room prints and sets
exit codes.

One file for each group of verbs, listed in its ``VERBS``. Verbs import what they call only when they run, so ``launcher
--help`` loads nothing but click.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

import click

from ..errors import UsageError
from ..redact import learn_environment, redact_output
from . import (
    again,
    answers,
    compare,
    data,
    demo,
    doctor,
    drill,
    explain,
    files,
    health,
    images,
    init,
    learned,
    merged,
    plan,
    render,
    report,
    runs,
    shell,
    started,
    states,
    storage,
    submit,
    tensorboard,
    why,
)
from .terminal import completion
from .terminal.failure import Failure

# Purpose -> verbs, as listed by the help and the reference.
PURPOSES: Final[Mapping[str, tuple[str, ...]]] = {
    "Get started": ("demo", "init", "doctor", "explain", "schema", "completion"),
    "Check and plan": ("check", "list", "show", "data", "plan", "render", "diff"),
    "Train": ("run", "submit", "resume", "stop", "again", "drill"),
    "Follow a run": ("ps", "status", "logs", "why", "health", "tensorboard", "shell"),
    "Look at the result": ("report", "compare", "learned", "score", "chat", "generate"),
    "Share and serve weights": ("download", "upload", "push", "merge", "serve"),
    "Images, secrets, cleanup": ("build", "secrets", "rm", "prune"),
}


class _ByPurpose(click.Group):
    """A group whose help lists its verbs by purpose."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.commands))
        for purpose, names in PURPOSES.items():
            with formatter.section(purpose):
                rows = [(f"{name:<{widest}}", self.commands[name].get_short_help_str(formatter.width)) for name in names]
                formatter.write_dl(rows)


@click.group(cls=_ByPurpose, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="dpo-launcher", prog_name="launcher")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def launcher(debug: bool) -> None:
    """Tune a language model on preference pairs with DPO: write an experiment in YAML, run it, read what it learned."""


for _room in (
    files,
    init,
    explain,
    demo,
    data,
    plan,
    render,
    runs,
    submit,
    started,
    shell,
    again,
    states,
    learned,
    answers,
    merged,
    compare,
    report,
    why,
    health,
    tensorboard,
    doctor,
    drill,
    images,
    storage,
    completion,
):
    for _verb in _room.VERBS:
        launcher.add_command(_verb)


def main(args: list[str] | None = None) -> None:
    """Runs the command line and exits. An error becomes one message on stderr, and with ``--json`` also JSON on stdout."""
    learn_environment()
    redact_output()
    args = sys.argv[1:] if args is None else args
    # `--debug` works anywhere, because people append it to the line they just typed. After `--` it belongs to another program.
    own = args[: args.index("--")] if "--" in args else args
    debug = "--debug" in own
    args = (["--debug"] if debug else []) + [arg for arg in own if arg != "--debug"] + args[len(own) :]
    sys.exit(_run(args, debug))


def _run(args: list[str], debug: bool) -> int:
    try:
        args = [_utf8(arg) for arg in args]
        code = launcher.main(args=args, prog_name="launcher", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return UsageError.exit_code
    except Exception as error:
        if debug and not isinstance(error, click.ClickException | click.exceptions.Abort):
            _print_traceback()
        return Failure.of(error).show(as_json="--json" in args)


def _utf8(arg: str) -> str:
    """``arg`` as UTF-8 in any locale (Python keeps undecodable bytes as surrogates)."""
    try:
        return os.fsencode(arg).decode("utf-8")
    except UnicodeError:
        raise UsageError(f"{arg!a} is not UTF-8") from None


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()
