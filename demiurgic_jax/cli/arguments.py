"""The command line: its subcommands, their options, and the help that teaches them."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from demiurgic_jax.cli import help_texts
from demiurgic_jax.cli.config_file import unknown
from demiurgic_jax.cli.languages import LANGUAGES
from demiurgic_jax.cli.setting_table import ASKING, LISTS, SAMPLING, SERVE, SOURCE, SYSTEM, Setting
from demiurgic_jax.cli.shell_completion import FILES, SHELLS

# Sampling options that have a flag of their own besides -o.
_SHORT = ("max_tokens", "temperature", "top_k", "top_p", "stop", "seed")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage of twenty options before it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help explains)\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def build_parser() -> Parser:
    """The parser of all subcommands. What it makes has `command`, and in `given` what was set, by setting."""
    parser = Parser(prog="demiurgic", description=help_texts.ALL, epilog=help_texts.ALL_EXAMPLES)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    commands.required = True

    def add(name: str) -> Parser:
        summary, takes, description, examples = help_texts.COMMANDS[name]
        usage = f"demiurgic {name} [OPTION...] {takes}".rstrip()
        added = commands.add_parser(name, help=summary, usage=usage, description=description, epilog=examples)
        added.set_defaults(given={})
        return added

    complete = add("complete")
    _completed(complete.add_argument("text", nargs="?", metavar="TEXT|FILE:LINE:COL", help="default: stdin"), FILES)
    _completed(complete.add_argument("-f", "--file", metavar="FILE", help="take the text from a file"), FILES)
    complete.add_argument("--suffix", metavar="TEXT", help="fill in what stands between the text and this one")
    complete.add_argument("--echo", action="store_true", help="print the text around the answer too")
    _asking(complete)

    chat = add("chat")
    chat.add_argument("text", nargs="?", metavar="MESSAGE", help="one question (default: a conversation, or stdin)")
    going_on = chat.add_mutually_exclusive_group()
    going_on.add_argument("-c", "--continue", dest="go_on", action="store_true", help="go on with the newest chat")
    _completed(going_on.add_argument("--resume", metavar="NAME", help="go on with the chat of this name"), _chat_names)
    going_on.add_argument("--list", action="store_true", help="list the chats that are kept, and exit")
    chat.add_argument("--no-history", action="store_true", help="keep nothing of this on disk")
    _asking(chat, system=True)

    for name in ("explain", "fix", "refactor", "translate"):
        asking = add(name)
        _completed(asking.add_argument("file", nargs="?", metavar="FILE", help="the code (default: stdin)"), FILES)
        if name == "translate":
            to = asking.add_argument("--to", metavar="LANGUAGE", required=True, help="go, rust, java, c++, …")
            _completed(to, _language_tags)
        asking.add_argument("--lines", metavar="A-B", help="these lines of it only, from 1, both included")
        asking.add_argument("--note", dest="wish", metavar="TEXT", help="say this too: an error message, a wish")
        language = asking.add_argument("--language", metavar="NAME", help="the code's (default: by the file's name)")
        _completed(language, _language_tags)
        if name in ("fix", "refactor"):
            asking.add_argument("--apply", action="store_true", help="write the change into the file")
        if name == "translate":
            _completed(asking.add_argument("--out", metavar="FILE", help="write the code to this file"), FILES)
        if name != "explain":
            asking.add_argument("-y", "--yes", action="store_true", help="do not ask before writing")
        _asking(asking, system=True)

    serve = add("serve")
    for setting in SERVE:
        _setting(serve, setting, switch=setting.default is False)

    models = add("models")
    _source(models.add_argument_group("where"), [each for each in SOURCE if each.name != "model"])
    models.add_argument("--json", action="store_true", help="print one JSON object per model")

    config = add("config")
    config.add_argument("of", nargs="?", metavar="COMMAND", choices=(*ASKING, "serve"), help="as this command sees it")
    config.add_argument("--path", action="store_true", help="print the file's place, and exit")
    config.add_argument("--init", action="store_true", help="make the file, with every setting as a comment")
    config.add_argument("--json", action="store_true", help="print one JSON object")

    completion = add("completion")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=" or ".join(SHELLS))
    return parser


def _asking(parser: Parser, *, system: bool = False) -> None:
    """The options that all share which ask the model something."""
    _source(parser.add_argument_group("model"), SOURCE)
    sampling = parser.add_argument_group("sampling")
    for setting in SAMPLING:
        if setting.name in _SHORT:
            _setting(sampling, setting)
    option = sampling.add_argument(
        "-o",
        dest="given",
        action=_SamplingOption,
        metavar="KEY=VALUE",
        default=argparse.SUPPRESS,
        help="any sampling option; may be repeated. Besides those above: "
        + ", ".join(each.name for each in SAMPLING if each.name not in _SHORT),
    )
    _completed(option, _option_words)
    if system:
        _setting(parser, SYSTEM)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--no-stream",
        dest="given",
        nargs=0,
        action=_NoStream,
        default=argparse.SUPPRESS,
        help="print it once it is whole",
    )
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object: text, finish_reason, token counts")
    form.add_argument("--raw", action="store_true", help="print what the model wrote and nothing else")


def _source(group: Any, settings: Iterable[Setting]) -> None:
    one = group.add_mutually_exclusive_group()
    for setting in settings:
        _setting(one if setting.name in ("url", "checkpoint") else group, setting)


def _setting(parser: Any, setting: Setting, *, switch: bool = False) -> None:
    default = f" (default: {setting.default})" if setting.default not in (None, (), False) else ""
    added = parser.add_argument(
        setting.flag,
        dest="given",
        action=_Given,
        const=setting,
        nargs=0 if switch else None,
        metavar=setting.metavar,
        default=argparse.SUPPRESS,
        help=(setting.help + default).replace("%", "%%"),
    )
    if setting.metavar == "DIR":
        _completed(added, FILES)


def _record(namespace: argparse.Namespace, name: str, flag: str, value: Any) -> None:
    """Notes a value; a list grows by it, anything else given twice is what it was given last."""
    # Not in place: the dictionary is the parser's default.
    given = dict(namespace.given)
    if name in LISTS and name in given:
        from demiurgic_jax.cli.values import texts

        value = [*texts(given[name][1]), *texts(value)]
    given[name] = (flag, value)
    namespace.given = given


class _Given(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None) -> None:
        _record(namespace, self.const.name, self.const.flag, True if self.nargs == 0 else value)


class _NoStream(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None) -> None:
        _record(namespace, "stream", "--no-stream", False)


class _SamplingOption(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None) -> None:
        name, equals, rest = value.partition("=")
        name = name.strip().replace("-", "_")
        known = [each.name for each in SAMPLING]
        if name not in known:
            parser.error(f"-o {name} is unknown: {unknown(name, known)}")
        if not equals:
            parser.error(f"-o {name} has no value: write -o {name}=VALUE")
        _record(namespace, name, f"-o {name}", rest)


class _Version(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"demiurgic {version('demiurgic_jax')}\n")
        parser.exit()


def _completed(action: argparse.Action, words: str | Callable[[], Iterable[str]]) -> None:
    """Says what the shell offers as the value: FILES, or the words that a function gives."""
    action.completed_by = words  # type: ignore[attr-defined]


def _language_tags() -> list[str]:
    return [each.tags[0] for each in LANGUAGES]


def _option_words() -> list[str]:
    return [f"{each.name}=" for each in SAMPLING]


def _chat_names() -> list[str]:
    from demiurgic_jax.cli.chats import saved_chats

    return [path.stem for path in saved_chats()]
