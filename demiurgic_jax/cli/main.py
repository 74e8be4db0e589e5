"""The `demiurgic` command: parses, dispatches, and turns a user's mistake into one sentence."""

import os
import sys
from collections.abc import Sequence

from demiurgic_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Other exceptions than UserError are failures and escape."""
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except UserError as error:
        print(f"demiurgic: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has enough. Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(arguments: list[str]) -> int:
    # Each module is imported where it is known to be needed: TAB and --help wait for no HTTP client, and none for JAX.
    from demiurgic_jax.cli.arguments import build_parser

    parser = build_parser()
    if arguments[:1] == ["__complete"]:
        from demiurgic_jax.cli.shell_completion import offer

        sys.stdout.writelines(f"{line}\n" for line in offer(parser, arguments[1], arguments[2:]))
        return 0
    options = parser.parse_args(arguments)
    if options.command == "completion":
        from demiurgic_jax.cli.shell_completion import SCRIPTS

        sys.stdout.write(SCRIPTS[options.shell])
        return 0
    from demiurgic_jax.cli.config_file import config_path, read_config
    from demiurgic_jax.cli.settings import resolve

    if options.command == "config":
        from demiurgic_jax.cli.config_command import show_config

        return show_config(options)
    settings = resolve(options.command, options.given, os.environ, read_config(config_path()))
    if options.command == "serve":
        from demiurgic_jax.cli.serving import serve

        return serve(settings)
    from demiurgic_jax.cli.http_client_import import import_http_client

    import_http_client()
    if options.command == "models":
        from demiurgic_jax.cli.models import print_models

        return print_models(options, settings)
    if options.command in ("fix", "refactor"):
        from demiurgic_jax.cli.editing import edit

        return edit(options, settings)
    if options.command == "translate":
        from demiurgic_jax.cli.editing import translate

        return translate(options, settings)
    from demiurgic_jax.cli import commands

    run = {"complete": commands.complete, "chat": commands.chat, "explain": commands.explain}[options.command]
    return run(options, settings)


if __name__ == "__main__":
    sys.exit(main())
