"""The command line: the only room that prints and the only one that chooses an exit code.

``files`` has the verbs that read experiment files, ``plan`` the one that says whether they fit, ``render`` those that show what
would be started, ``runs`` the one that starts them, ``submit`` those for a cluster, ``started`` those that watch, stop and resume
runs, ``states`` those that say how they are, ``why`` the one that explains them, ``doctor`` the one that says what is missing,
``drill`` the one that kills and resumes them, ``images`` those that build images, ``storage`` those that bring adapters to a
bucket and back. All import what they need inside the verb, so that ``launcher --help`` loads click and nothing else.
"""

from __future__ import annotations

import os
import sys

import click

from ..errors import LauncherError, UsageError
from ..redact import learn_environment, redact_output
from . import doctor, drill, files, images, plan, render, runs, started, states, storage, submit, tensorboard, why


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="dpo-launcher", prog_name="launcher")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def launcher(debug: bool) -> None:
    """Tune a language model on preferences: write an experiment in YAML, run it, read what was learned."""


for _room in (files, plan, render, runs, submit, started, states, why, tensorboard, doctor, drill, images, storage):
    for _verb in _room.VERBS:
        launcher.add_command(_verb)


def main(args: list[str] | None = None) -> None:
    """Runs the command line and exits; every error becomes one message on stderr and its exit code."""
    learn_environment()
    redact_output()
    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    # `--debug` is accepted in any place, as people add it to the end of the line they just typed.
    args = (["--debug"] if debug else []) + [arg for arg in args if arg != "--debug"]
    sys.exit(_run(args, debug))


def _run(args: list[str], debug: bool) -> int:
    try:
        args = [_utf8(arg) for arg in args]
        code = launcher.main(args=args, prog_name="launcher", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except LauncherError as error:
        if debug:
            _print_traceback()
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:  # a full or read-only disk: the machine's, not ours
        if debug:
            _print_traceback()
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), err=True)
        return 1
    except Exception as error:
        if debug:
            _print_traceback()
            return 1
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(f"{type(error).__name__}: {error}\n    this is a bug of the launcher; --debug shows where", err=True)
        return 1


def _utf8(arg: str) -> str:
    """What was typed, also where the locale is not UTF-8 (Python keeps such bytes as surrogates)."""
    try:
        return os.fsencode(arg).decode("utf-8")
    except UnicodeError:
        raise UsageError(f"{arg!a}: what is typed must be UTF-8") from None


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()
