"""What --help says: for each command a line, what it takes, a description, and examples that can be pasted."""

ALL = """\
Complete, explain, fix, refactor and translate code with your own model.

The model is a server (--url) or a checkpoint (--checkpoint). Without either it is what the environment
(DEMIURGIC_URL, DEMIURGIC_CHECKPOINT) or the config file names, else the newest runs/*/train/checkpoints here.
"""
ALL_EXAMPLES = """\
examples:
  demiurgic complete 'def is_prime(n):'
  demiurgic complete tool.py:12:5                what belongs at line 12, column 5
  git show HEAD:tool.py | demiurgic explain
  demiurgic fix broken.py                        shows the change as a diff
  demiurgic fix broken.py --apply                ... and writes it, after asking
  demiurgic translate parse.py --to rust
  demiurgic chat                                 a conversation; /help lists its commands
  demiurgic serve                                serves the newest run to editors and OpenAI clients
  demiurgic config                               shows every setting and where it comes from

Settings come from flags, then the environment (DEMIURGIC_URL, DEMIURGIC_TEMPERATURE, ...), then the
config file, then the defaults. A server's key is taken from DEMIURGIC_API_KEY, or the variable that --key-env names.

TAB completes after: eval "$(demiurgic completion bash)" (zsh and fish: demiurgic completion --help)

exit status: 0 done, 1 failure or an answer that cannot be used, 2 bad input, 130 interrupted
"""

COMMANDS = {
    "complete": (
        "continue text, or fill in a place in a file",
        "[TEXT | FILE:LINE:COL]",
        """\
Continues a text. FILE:LINE:COL fills in what belongs at that place (lines and columns count from 1,
columns in characters, as editors show them): the model sees what stands before it and after it.
It needs a model that was trained with fill-in-the-middle.""",
        """\
examples:
  demiurgic complete 'def is_prime(n):'
  demiurgic complete tool.py:12:5
  demiurgic complete 'def area(r): return ' --suffix ' * r'
  demiurgic complete --file half_done.py --max-tokens 64 --stop '"\\n\\n"'
  head -20 tool.py | demiurgic complete --raw
  demiurgic complete -o temperature=0.8 -o min_p=0.05 -o seed=1 'import'
  demiurgic complete --json -o logprobs=3 'x = '""",
    ),
    "chat": (
        "ask a question, or hold a conversation",
        "[MESSAGE]",
        """\
With a MESSAGE or a pipe: one answer. On a terminal without one: a conversation. There /help lists the commands;
a message goes on after a line that ends with \\, and from \"\"\" to \"\"\". Conversations are kept and can be
gone on with.""",
        """\
examples:
  demiurgic chat 'What does functools.partial do?'
  demiurgic chat --system 'Answer in one sentence.'
  demiurgic chat --continue 'And in JavaScript?'
  demiurgic chat --list
  git diff | demiurgic chat --system 'Write a commit message for this diff.'""",
    ),
    "explain": (
        "say what code does",
        "[FILE]",
        "Explains the code of a file, of some of its lines, or of stdin in a few sentences.",
        """\
examples:
  demiurgic explain tool.py
  demiurgic explain tool.py --lines 10-40
  demiurgic explain tool.py --note 'What is the second argument for?'
  git show HEAD:tool.go | demiurgic explain --language go""",
    ),
    "fix": (
        "mend code that has a bug",
        "[FILE]",
        """\
Shows what the model would change in a file, as a unified diff that patch and git apply take. --apply writes it,
and asks first on a terminal. Code from stdin comes back on stdout. A file is replaced in one step or not at all;
an answer that was cut off, leaves code out or is no valid Python is refused with status 1.""",
        """\
examples:
  demiurgic fix broken.py
  demiurgic fix broken.py --note 'It fails for an empty list.' --apply
  demiurgic fix broken.py --lines 10-40 --apply --yes
  demiurgic fix broken.py | git apply
  demiurgic fix < broken.py > mended.py
in vim, on the lines that are selected:
  :'<,'>!demiurgic fix --language python""",
    ),
    "refactor": (
        "make code simpler",
        "[FILE]",
        """\
Shows a simpler way to write a file, as a unified diff that patch and git apply take. --apply writes it, and asks
first on a terminal. Code from stdin comes back on stdout. Nothing proves that the new code does the same: run your
tests.""",
        """\
examples:
  demiurgic refactor long.py
  demiurgic refactor long.py --lines 10-40 --apply
  demiurgic refactor long.py -o temperature=0.7 -o seed=1 --note 'Use a dictionary.'""",
    ),
    "translate": (
        "carry code over to another language",
        "--to LANGUAGE [FILE]",
        "Writes the code of a file, of some of its lines, or of stdin in another language: to stdout, or to --out.",
        """\
examples:
  demiurgic translate parse.py --to rust
  demiurgic translate parse.py --to go --out parse.go
  demiurgic translate --language java --to python < Parse.java""",
    ),
    "serve": (
        "serve a checkpoint to this command, editors and OpenAI clients",
        "",
        """\
Serves the OpenAI API (/v1/completions, /v1/chat/completions, /v1/models), /infill for editors, and a playground
at /. It listens on this machine alone, for everybody on it: --host 0.0.0.0 opens it to the network, and then a
key is wise. SIGTERM or Ctrl-C lets running answers end first.""",
        """\
examples:
  demiurgic serve
  demiurgic serve --checkpoint runs/quickstart/train/checkpoints --port 8080
  SERVER_KEYS="$(openssl rand -hex 16)" demiurgic serve --host 0.0.0.0 --key-env SERVER_KEYS
  demiurgic serve --slots 16 --max-context 8192 --max-queue 64 --cors https://editor.example""",
    ),
    "models": (
        "list what a server serves, or the checkpoints here",
        "",
        "Lists the models of a server; without one, the newest checkpoint of every run under runs/.",
        """\
examples:
  demiurgic models
  demiurgic models --url http://localhost:8000/v1""",
    ),
    "config": (
        "show every setting and where it comes from",
        "[COMMAND]",
        """\
Shows the value of every setting, and whether it comes from the environment, the config file or the defaults.
The file is ~/.config/demiurgic/config.toml (XDG_CONFIG_HOME is heeded; DEMIURGIC_CONFIG names another one).""",
        """\
examples:
  demiurgic config
  demiurgic config fix                as `fix` sees them
  demiurgic config --init             makes the file, every setting in it as a comment
the file:
  url = "http://localhost:8000/v1"    for all commands
  [complete]
  max_tokens = 64                     for one command
the environment:
  DEMIURGIC_URL, DEMIURGIC_TEMPERATURE, ...: each setting's name in capitals; for serve DEMIURGIC_SERVE_PORT, ...""",
    ),
    "completion": (
        "print what makes TAB complete this command",
        "bash | zsh | fish",
        "Prints a script for your shell, which completes commands, options, their values and file names.",
        """\
bash, in ~/.bashrc:
  eval "$(demiurgic completion bash)"
zsh, in ~/.zshrc, after compinit:
  eval "$(demiurgic completion zsh)"
fish:
  demiurgic completion fish > ~/.config/fish/completions/demiurgic.fish""",
    ),
}
