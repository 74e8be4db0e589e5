"""Who may import whom: the table of the house plan, held over every file of the package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "demiurgic_jax"

MAY_IMPORT = {
    "model": set(),
    "data": set(),
    "curation": set(),
    "sandbox": set(),
    "sharding": {"model"},
    "checkpoints": {"model", "sharding", "data"},
    "distillation": {"data", "curation", "sandbox"},
    "training": {"model", "sharding", "data", "checkpoints"},
    "sampling": {"model", "sharding", "data", "checkpoints"},
    "evaluation": {"data", "curation", "sandbox"},
    "interop": {"model", "data", "checkpoints"},
    "planning": {"model", "sharding", "training"},
    "cli": {"sampling"},
}

# Of sampling, the command line sees the HTTP client and the pieces that it streams; the rest only from
# within a function, once a checkpoint is opened in place. The types of a request and its answer are data's.
CLI_AT_START = {"demiurgic_jax.sampling.client", "demiurgic_jax.sampling.stream", "demiurgic_jax.data.completer"}
CLI_IN_PLACE = {"checkpoints", "data", "sampling"}

# Run inside the sandbox by path, never imported.
PROGRAMS = set((PACKAGE / "sandbox" / "harness").glob("*.py"))

FILES = sorted(set(PACKAGE.rglob("*.py")) - PROGRAMS)


def imported_modules(tree: ast.AST, *, at_start: bool = False) -> Iterator[str]:
    """Names of the imported modules; with `at_start` only those imported with the module itself."""
    for node in ast.iter_child_nodes(tree):
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            # `from package import module` names a module too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported_modules(node, at_start=at_start)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "demiurgic_jax" and parts[1] in MAY_IMPORT else None


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def test_every_room_is_in_the_table():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_it_may(room):
    allowed = MAY_IMPORT[room] | {room} | (CLI_IN_PLACE if room == "cli" else set())
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for module in imported_modules(parsed(file)):
            where = f"{file.relative_to(ROOT)} imports {module}"
            assert not module.startswith(("experiments", "tools", "tests")), where
            assert room_of(module) in allowed | {None}, where


def test_the_command_line_starts_with_the_http_client_alone():
    for file in sorted((PACKAGE / "cli").rglob("*.py")):
        for module in imported_modules(parsed(file), at_start=True):
            if room_of(module) not in {None, "cli"}:
                assert module.rpartition(".")[0] in CLI_AT_START, f"{file.relative_to(ROOT)} imports {module}"


def test_rooms_that_run_on_a_laptop_do_not_load_jax():
    """Files and HTTP are all that these need; loading them must stay quick and free of an accelerator."""
    rooms = ("curation", "sandbox", "distillation", "evaluation", "data")
    files = [file for room in rooms for file in sorted((PACKAGE / room).rglob("*.py"))]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file not in PROGRAMS]
    modules += ["demiurgic_jax.cli.main", "demiurgic_jax.sampling.client"]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'jax' not in sys.modules, f'{name} loads JAX'\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_a_file_is_one_thought():
    written = [*FILES, *(ROOT / "experiments").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    written += (ROOT / "tests").rglob("*.py")
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in written}
    assert len(lengths) > 50
    assert {name: lines for name, lines in lengths.items() if lines > 500} == {}


def test_init_files_say_nothing():
    """What is imported is named by its own module, so there is one way to it."""
    inits = [file for file in FILES if file.name == "__init__.py" and file.parent != PACKAGE]
    assert len(inits) >= len(MAY_IMPORT)
    assert [str(file.relative_to(ROOT)) for file in inits if file.read_text().strip()] == []
