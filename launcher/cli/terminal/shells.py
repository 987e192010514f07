"""Completion in bash and zsh: click's own, plus values after ``=`` and no space after ``KEY=``."""

from __future__ import annotations

import os
from typing import ClassVar, Final

from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class, split_arg_string

# Bash takes "beta", "=" and "0.1" for three words: the launcher splits the line itself, and answers what follows the last break.
_BASH: Final = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value

    response=$(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1")

    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
            [[ $value == *= ]] && compopt -o nospace
        fi
    done

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completes the last word of COMP_LINE."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        if "COMP_LINE" not in os.environ:
            return super().get_completion_args()
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        begun = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], begun

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value[_broken_at() :]}"


def _broken_at() -> int:
    """Length of the part of the word that bash keeps: up to the last character at which bash splits words."""
    words = split_arg_string(os.environ.get("COMP_LINE", " "))
    breaks = [mark for mark in "=:" if mark in os.environ.get("COMP_WORDBREAKS", "")]
    is_begun = words and not os.environ.get("COMP_LINE", " ")[-1:].isspace()
    return max((words[-1].rfind(mark) + 1 for mark in breaks), default=0) if is_begun else 0


class Zsh(ZshComplete):
    """Leaves the cursor directly after ``KEY=``."""

    source_template: ClassVar[str] = ZshComplete.source_template.replace(
        """            if [[ "$descr" == "_" ]]; then
""",
        """            if [[ "$key" == *= ]]; then
                compadd -U -V unsorted -S '' -- "$key"
            elif [[ "$descr" == "_" ]]; then
""",
    )


def register() -> None:
    """Makes click use these classes for completion."""
    add_completion_class(Bash, "bash")
    add_completion_class(Zsh, "zsh")
