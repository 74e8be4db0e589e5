"""What TAB offers: one logic here, which three shells ask with a few lines of their own."""

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")
# Instead of words: the shell completes names of files, as only it knows how.
FILES = ":files"

SCRIPTS = {
    "bash": r"""# demiurgic completion for bash: eval "$(demiurgic completion bash)" in ~/.bashrc
_demiurgic() {
    local line words=()
    while IFS= read -r line; do words+=("${line%%$'\t'*}"); done < <(
        "${COMP_WORDS[0]}" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=()
    if [[ ${words[0]-} == :files ]]; then
        compopt -o default
    else
        COMPREPLY=("${words[@]}")
        if [[ ${#words[@]} == 1 && ${words[0]} == *= ]]; then compopt -o nospace; fi
    fi
}
complete -F _demiurgic demiurgic
""",
    "zsh": r"""#compdef demiurgic
# demiurgic completion for zsh: eval "$(demiurgic completion zsh)" in ~/.zshrc, after compinit
_demiurgic() {
    local line
    local -a plain open
    for line in "${(@f)$("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            :files) _files; return ;;
            '') ;;
            *=) open+=("$line") ;;
            *) plain+=("${${line%%$'\t'*}//:/\\:}${${(M)line:#*$'\t'*}:+:${line#*$'\t'}}") ;;
        esac
    done
    (( $#open )) && compadd -S '' -- "${open[@]}"
    (( $#plain )) && _describe 'demiurgic' plain
    (( $#open + $#plain ))
}
compdef _demiurgic demiurgic
""",
    "fish": r"""# demiurgic completion for fish: demiurgic completion fish | source, in ~/.config/fish/config.fish
function __demiurgic_complete
    set -l before (commandline -opc)
    set -l offered ($before[1] __complete fish $before[2..] (commandline -ct) 2>/dev/null)
    if test "$offered[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $offered
    end
end
complete -c demiurgic -f -a '(__demiurgic_complete)'
""",
}


def offer(parser: argparse.ArgumentParser, shell: str, words: list[str]) -> Iterator[str]:
    """For the words behind `demiurgic`, of which the last is being typed: FILES, or what it may become, one by one,
    each with its description behind a tab where it has one."""
    joined, cut = _joined(words or [""]) if shell == "bash" else (words or [""], 0)
    *before, current = joined
    command, actions, taken = _position(parser, before)
    for word, description in _candidates(command, actions, taken, current):
        if word == FILES:
            yield FILES
            return
        if word.startswith(current):
            yield word[cut:] + (f"\t{description}" if description and not word.endswith("=") else "")


def _joined(words: list[str]) -> tuple[list[str], int]:
    """Bash cuts words at "="; joined again, with how many characters of the last one it does not replace."""
    joined: list[str] = []
    cut, open_end = 0, False
    for word in words:
        if joined and (word == "=" or open_end):
            open_end = word == "="
            joined[-1] += word
            cut = len(joined[-1]) - (0 if open_end else len(word))
        else:
            joined.append(word)
            cut = 0
    return joined, cut


def _position(
    parser: argparse.ArgumentParser, before: list[str]
) -> tuple[argparse.ArgumentParser, argparse.Action | None, int]:
    """The parser in charge, the option whose value comes next if one does, and how many arguments it has had."""
    pending: argparse.Action | None = None
    taken = 0
    for word in before:
        if pending is not None:
            pending = None
        elif word.startswith("-") and word != "-":
            flag, equals, _ = word.partition("=")
            action = parser._option_string_actions.get(flag)
            pending = action if action is not None and action.nargs != 0 and not equals else None
        elif (commands := _subcommands(parser)) and word in commands:
            parser, taken = commands[word], 0
        else:
            taken += 1
    return parser, pending, taken


def _candidates(
    parser: argparse.ArgumentParser, pending: argparse.Action | None, taken: int, current: str
) -> Iterator[tuple[str, str]]:
    if pending is not None:
        yield from _values(pending, current)
    elif current.startswith("--") and "=" in current:
        flag = current.partition("=")[0]
        action = parser._option_string_actions.get(flag)
        for word, description in _values(action, current) if action else ():
            yield (word if word == FILES else f"{flag}={word}", description)
    elif current.startswith("-"):
        for action in parser._actions:
            if action.help is not argparse.SUPPRESS and action.option_strings:
                yield action.option_strings[-1], _brief(action.help)
    else:
        positional = [action for action in parser._actions if not action.option_strings]
        if taken < len(positional):
            yield from _values(positional[taken], current)


def _values(action: argparse.Action, current: str) -> Iterator[tuple[str, str]]:
    if isinstance(action, argparse._SubParsersAction):
        yield from ((each.dest, _brief(each.help)) for each in action._choices_actions)
        return
    offered = getattr(action, "completed_by", None)
    if offered == FILES:
        yield FILES, ""
    elif offered is not None:
        yield from ((word, "") for word in offered())
    else:
        yield from ((word, "") for word in action.choices or ())


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def _brief(text: str | None) -> str:
    return (text or "").replace("%%", "%").split(";")[0].split(" (default")[0]
