"""A small world of repositories that has everything that a corpus pipeline must do something about."""

import json
import random
import shutil
import subprocess
from pathlib import Path

from demiurgic_jax.curation.corpus.execution import Execution
from demiurgic_jax.curation.corpus.parts import read_rank
from demiurgic_jax.curation.corpus.pipeline import SPLITS, CorpusConfig, run_corpus
from demiurgic_jax.curation.sources import CodeSource, standard_library

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy, subject to the following conditions:"
)
KEY = "ghp_" + "aB3dE6gH9kL2nP5rS8uV1xY4zC7fJ0mQ6tW3"


def library(names=("json", "email", "logging", "importlib")) -> dict[str, str]:
    """Real files by path."""
    folder, _ = standard_library()
    files = [path for name in names for path in sorted((folder / name).glob("*.py"))]
    return {f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8") for path in files}


def write_world(root: Path) -> CodeSource:
    """Repositories below `root`: one/ and two/ hold real code, copies and near-copies of each other and what is to be
    left out; bare/ names no licence."""
    files = library()
    for number, (path, text) in enumerate(sorted(files.items())):
        write(root / ("one" if number % 2 else "two") / path, text)
    for name in ("one", "two"):
        write(root / name / "LICENSE", MIT)
    write(root / "one" / "copied" / "decoder.py", files["json/decoder.py"].replace("\n\n", "\n \n"))
    edited = files["email/message.py"].replace("self._headers", "self._fields", 3)
    write(root / "two" / "message_too.py", edited)
    write(root / "one" / "keys.py", f'"""Keys."""\n\n\ndef token():\n    return "{KEY}"\n')
    write(root / "one" / "broken.py", "def broken(:\n    return several + words + here\n" * 4)
    write(root / "one" / "table.py", "TABLE = [\n" + "1,2,3,4,5,6,7,8,9,0,\n" * 40 + "]\n")
    write(root / "one" / "long.py", "TEXT = '" + "word " * 400 + "'\n" + "print(TEXT)\n" * 60)
    write(root / "two" / "script", "#!/usr/bin/env python3\nimport sys\n\n\ndef main():\n    sys.exit(len(sys.argv))\n")
    write(root / "two" / "window.ts", '<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS/>\n')
    (root / "two" / "binary.py").write_bytes(b"\x7fELF\0\0\0" * 50)
    (root / "two" / "latin.py").write_bytes("name = 'Åstrand'\n".encode("latin-1"))
    (root / "two" / "loop").symlink_to(root / "two", target_is_directory=True)
    (root / "two" / "round.py").symlink_to("round.py")
    write(root / "bare" / "module.py", "def bare(value):\n    return value + value * value\n")
    with (root / "two" / "huge.py").open("wb") as file:  # one line of a gigabyte, none of it on the disk
        file.truncate(1 << 30)
    return CodeSource(folders=str(root))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def made(config: CorpusConfig, folder: Path, execution: Execution | None = None) -> dict[str, str]:
    """Runs the pipeline and returns the texts that are left, by repository's name and path."""
    run_corpus(config, folder, execution or Execution(workers=1), lambda done, total, what: None)
    return texts_in(folder, config.parts)


def texts_in(folder: Path, parts: int) -> dict[str, str]:
    found = {}
    for split in SPLITS:
        for part in range(parts):
            for each in read_rank(folder / "documents" / split, part):
                found[f"{Path(each.metadata['repository']).name}/{each.metadata['path']}"] = each.text
    return found


def edited(text: str, share: float, rng: random.Random) -> str:
    """`text` with about that share of its lines' words replaced by other words."""
    words = text.split(" ")
    for place in range(len(words)):
        if words[place] and rng.random() < share:
            words[place] = f"w{rng.randrange(10**6)}"
    return " ".join(words)


def git_repository(folder: Path) -> str:
    """Commits what is in `folder`; returns the commit."""
    run = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*run, *words], check=True)
    said = subprocess.run([*run, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return said.stdout.strip()


def rows_of(files: dict[str, str], path: Path) -> None:
    """The Stack's layout, as JSON lines or Parquet by the name of `path`."""
    rows = [
        {
            "content": text,
            "max_stars_repo_path": name,
            "max_stars_repo_name": "team/it",
            "max_stars_repo_licenses": ["MIT"],
        }
        for name, text in files.items()
    ]
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def forget(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
