"""Every setting: its name, what it may be, what it does, its default."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demiurgic_jax.cli import values
from demiurgic_jax.cli.values import Kind


@dataclass(frozen=True)
class Setting:
    """One setting: a flag `--NAME`, a variable `DEMIURGIC_NAME`, a line of the file. `shown` says what stands in for a
    default that is worked out later."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    metavar: str = "TEXT"
    shown: str = "none"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


SOURCE = (
    Setting("url", values.text, "an OpenAI-compatible server, like http://localhost:8000/v1", metavar="URL"),
    Setting("checkpoint", values.text, "a run's checkpoints, or one of its steps", metavar="DIR"),
    Setting("model", values.text, "the server's model to ask", metavar="NAME", shown="the server's first"),
    Setting(
        "key_env", values.text, "name of the variable that holds the server's key", "DEMIURGIC_API_KEY", metavar="NAME"
    ),
)
SYSTEM = Setting("system", values.text, "instructions that come before the conversation")
STREAM = Setting("stream", values.truth, "print the answer while it is written", True, metavar="BOOL")
SAMPLING = (
    Setting("max_tokens", values.whole(1), "the longest answer, in tokens", 256, "N"),
    Setting("temperature", values.number(0, 100), "0 is greedy; higher draws more freely", 0.0, "T"),
    Setting("top_k", values.whole(0), "draw from the K likeliest tokens only; 0 is from all", 0, "K"),
    Setting("top_p", values.number(0, 1, above=True), "draw from the likeliest tokens of mass P", 1.0, "P"),
    Setting("min_p", values.number(0, 1), "drop tokens below P times the likeliest one's probability", 0.0, "P"),
    Setting("repetition_penalty", values.number(0, above=True), "above 1 makes used tokens less likely", 1.0, "R"),
    Setting("frequency_penalty", values.number(-2, 2), "taken from a token's logit each time it is used", 0.0, "F"),
    Setting("presence_penalty", values.number(-2, 2), "taken from a token's logit once it was used", 0.0, "F"),
    Setting("seed", values.whole(0), "makes drawing repeatable", None, "N"),
    Setting("stop", values.texts, "end before this text; may be repeated", (), "TEXT"),
    Setting("stop_tokens", values.wholes, "end before these token ids", (), "IDS"),
    Setting("max_seconds", values.number(0, above=True), "end where it is after this long", None, "SECONDS"),
    Setting("truncate", values.truth, "cut a prompt that is too long at its left", False, "BOOL"),
    Setting("logprobs", values.whole(0, 20), "with --json: alternatives per token", None, "N"),
)
SERVE = (
    Setting("checkpoint", values.text, "a run's checkpoints, or one of its steps", None, "DIR", "the newest run"),
    Setting("model", values.text, "the name it is served under", None, "NAME", "the run's"),
    Setting("host", values.text, "address to listen on", "127.0.0.1", "ADDRESS"),
    Setting("port", values.whole(0, 65535), "port to listen on; 0 takes a free one", 8000, "PORT"),
    Setting("slots", values.whole(1), "requests decoded together", 8, "N"),
    Setting("max_context", values.whole(2), "tokens of prompt and answer", None, "N", "the model's"),
    Setting("dtype", values.choice("float32", "bfloat16"), "numbers that the network computes in", "float32", "DTYPE"),
    Setting("int8", values.truth, "weights in 8 bits, with a scale per channel", False, "BOOL"),
    Setting("int8_cache", values.truth, "the KV cache in 8 bits", False, "BOOL"),
    Setting("mesh", values.mesh, "spread the model over all devices, like tensor=4", (), "AXES", "none"),
    Setting("warm_up", values.truth, "compile before serving instead of at the first requests", False, "BOOL"),
    Setting("key_env", values.text, "name of the variable that holds the keys of who may ask", None, "NAME", "nobody"),
    Setting("cors", values.texts, "web origin whose pages may ask, or *; may be repeated", (), "ORIGIN"),
    Setting("max_body_mib", values.number(0, above=True), "the largest request, in MiB", 8.0, "MIB"),
    Setting("max_queue", values.whole(0), "requests that may wait for a slot; the next gets a 429", 256, "N"),
    Setting("drain_seconds", values.number(0), "after SIGTERM, how long running answers may take", 30.0, "SECONDS"),
    Setting("log_prompts", values.truth, "write prompts and answers into the log", False, "BOOL"),
)
LISTS = ("stop", "cors")  # given twice, these are both

# What takes another default than the one above. None: worked out from the code (skills.answer_tokens).
COMMAND_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "chat": {"max_tokens": 1024},
    "explain": {"max_tokens": 512},
    "fix": {"max_tokens": None},
    "refactor": {"max_tokens": None},
    "translate": {"max_tokens": None},
}
AS_THE_CODE_NEEDS = "as the code needs"
ASKING = ("complete", "chat", "explain", "fix", "refactor", "translate")


def settings_of(command: str | None) -> tuple[Setting, ...]:
    """The settings that a command takes; of no command, those that all asking ones share."""
    if command == "serve":
        return SERVE
    if command == "models":
        return tuple(each for each in SOURCE if each.name != "model")
    return (*SOURCE, SYSTEM, STREAM, *SAMPLING)
