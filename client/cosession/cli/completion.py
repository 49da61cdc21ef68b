"""`cosession completion`: the script that lets a shell complete the command line.

The scripts hold no list: they hand what is typed to `cosession complete` and offer what it prints.

Rule: a script is silent whatever fails, and defines nothing beside its one function.
"""

from __future__ import annotations

import sys

from cosession.cli.options import Given, Verb, did_you_mean, usage_error

SCRIPTS = {
    "bash": r"""# cosession: completion for bash; see: cosession completion --help
_cosession() {
    local program=cosession answer
    [[ $1 == */* ]] && program=${1/#\~/$HOME}
    COMPREPLY=()
    {
        IFS= read -r answer
        if [[ $answer == files ]]; then
            compopt -o default +o nospace 2>/dev/null
            return
        fi
        while IFS= read -r answer; do
            COMPREPLY+=("$2${answer%%$'\t'*}")
        done
    } < <(command "$program" complete bash -- "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o nospace -F _cosession cosession
""",
    "zsh": r"""#compdef cosession
# cosession: completion for zsh; see: cosession completion --help
_cosession() {
    local answer line typed=$QIPREFIX$PREFIX
    local -a answers columns ended ended_shown open open_shown
    answers=("${(@f)$(command ${(Q)words[1]} complete zsh -- "${(@Q)words[1,CURRENT-1]}" "$typed" 2>/dev/null)}")
    answer=$answers[1]
    if [[ $answer == files ]]; then
        _files
        return
    fi
    for line in "${(@)answers[2,-1]}"; do
        columns=("${(@ps:\t:)line}")
        if [[ $columns[2] == *[/=] ]]; then
            open+=("$PREFIX$columns[1]")
            open_shown+=("$columns[2]")
        else
            ended+=("$PREFIX$columns[1]")
            ended_shown+=("$columns[2]${columns[3]:+  -- $columns[3]}")
        fi
    done
    (( $#open )) && compadd -U -Q -S '' -d open_shown -a open
    (( $#ended )) && compadd -U -Q -d ended_shown -a ended
    (( $#open + $#ended ))
}
if [[ $funcstack[1] == _cosession ]]; then
    _cosession "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -D }
    compdef _cosession cosession
fi
""",
    "fish": r"""# cosession: completion for fish; see: cosession completion --help
function __cosession_complete
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    set -l answers (command $before[1] complete fish -- $before "$typed" 2>/dev/null)
    if test "$answers[1]" = files
        __fish_complete_path "$answers[2]"
    else if set -q answers[2]
        printf '%s\n' $answers[2..-1]
    end
end
complete -c cosession -f -a '(__cosession_complete)'
""",
}


def run(given: Given) -> int:
    """Print the script of a shell."""
    shell = given.words[0]
    if shell not in SCRIPTS:
        guess = did_you_mean(shell, SCRIPTS)
        raise usage_error(given.verb, f"there is no script for {shell!r}{guess or f', only for {_names()}'}")
    if given.flag("--json"):
        from cosession.cli import render

        render.json_line({"shell": shell, "script": SCRIPTS[shell]})
    elif sys.stdout is not None:
        sys.stdout.write(SCRIPTS[shell])
    return 0


def _names() -> str:
    return ", ".join(SCRIPTS)


COMPLETION = Verb(
    "completion",
    "bash|zsh|fish",
    run,
    summary="Print the script that lets your shell complete verbs, options, keys, sessions and projects.",
    text="Keys, sessions and projects are those of the running daemon; it is asked for 300 ms at most and never\n"
    "started.",
    examples=(
        ('eval "$(cosession completion bash)"', "bash: put this into ~/.bashrc"),
        ('eval "$(cosession completion zsh)"', "zsh: put this into ~/.zshrc"),
        ("cosession completion fish > ~/.config/fish/completions/cosession.fish", "fish: once"),
    ),
    words=(1, 1),
)
