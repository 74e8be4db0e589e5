"""Runs many of demiurgic-mini's own candidates at once: per language one program, so that one compilation is paid.

Only for code that we wrote: there is no sandbox around it.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

Jobs = Mapping[str, tuple[str, str]]  # name of the job → candidate, tests

_PYTHON = """\
import json, sys
failed = []
for name, (candidate, tests) in json.load(sys.stdin).items():
    try:
        exec(candidate + "\\n" + tests, {"__name__": name})
    except Exception:
        failed.append(name)
print(json.dumps(failed))
"""

_NODE = """\
const { stripTypeScriptTypes } = require('module');
const ts = process.argv[2] === '' ? null : require(process.argv[2]);
const plain = ts === null ? (stripTypeScriptTypes ?? ((text) => text))
  : (text) => ts.transpile(text, { target: ts.ScriptTarget.ES2022 });
const failed = [];
for (const [name, parts] of Object.entries(JSON.parse(require('fs').readFileSync(0, 'utf8')))) {
  try {
    new Function(plain(parts.join('\\n')))();
  } catch (error) {
    failed.push(name);
  }
}
console.log(JSON.stringify(failed));
"""


def why_not(language: str) -> str:
    """What is missing here to run `language`; empty if nothing is."""
    programs = {"typescript": ("node",), "javascript": ("node",), "rust": ("rustc",), "go": ("go",), "cpp": ("g++",)}
    missing = [name for name in {"java": ("javac", "java"), **programs}.get(language, ()) if shutil.which(name) is None]
    if language == "typescript" and not missing and not _node_strips_types() and _typescript() is None:
        missing = ["node 22.13 or the typescript package"]
    return f"{missing[0]} is not installed" if missing else ""


def failing(language: str, jobs: Jobs, folder: Path) -> set[str]:
    """Names of the jobs whose candidate does not pass its tests. All must compile."""
    return _RUNNERS[language](jobs, folder)


def _run(*command: str | Path, folder: Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, cwd=folder, check=False)


def _checked(*command: str | Path, folder: Path, given: str = "") -> str:
    finished = _run(*command, folder=folder, given=given)
    assert finished.returncode == 0, finished.stderr[:4000] + finished.stdout[:2000]
    return finished.stdout


def _python(jobs: Jobs, folder: Path) -> set[str]:
    return set(json.loads(_checked(sys.executable, "-I", "-c", _PYTHON, folder=folder, given=json.dumps(jobs))))


def _javascript(jobs: Jobs, folder: Path) -> set[str]:
    return _scripts(jobs, folder, None)


def _typescript_jobs(jobs: Jobs, folder: Path) -> set[str]:
    return _scripts(jobs, folder, None if _node_strips_types() else _typescript())


def _scripts(jobs: Jobs, folder: Path, typescript: Path | None) -> set[str]:
    (folder / "run.js").write_text(_NODE)
    return set(json.loads(_checked("node", "run.js", str(typescript or ""), folder=folder, given=json.dumps(jobs))))


def _node_strips_types() -> bool:
    asked = subprocess.run(
        ["node", "-p", "typeof require('module').stripTypeScriptTypes"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() == "function"


def _typescript() -> Path | None:
    compiler = shutil.which("tsc")
    library = Path(compiler).resolve().parents[1] / "lib" / "typescript.js" if compiler else None
    return library if library and library.exists() else None


def _go(jobs: Jobs, folder: Path) -> set[str]:
    imports, tests = [], []
    for number, (name, (candidate, test)) in enumerate(jobs.items()):
        package = folder / f"j{number}"
        package.mkdir()
        for file, text in (("candidate.go", candidate), ("tests.go", test)):
            (package / file).write_text(text.replace("package main", f"package j{number}", 1))
        imports.append(f'import "mini/j{number}"')
        tests.append(f'{{"{name}", j{number}.TestMini}},')
    (folder / "go.mod").write_text("module mini\n\ngo 1.18\n")
    run = "testing.Main(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{\n%s\n}, nil, nil)"
    lines = ["package main", 'import "testing"', *imports, "func main() {", run % "\n".join(tests), "}"]
    (folder / "main.go").write_text("\n".join(lines))
    _checked("go", "build", "-o", "program", ".", folder=folder)
    output = _run(folder / "program", "-test.v", folder=folder).stdout
    ended = re.findall(r"^--- (PASS|FAIL): (\S+)", output, re.MULTILINE)
    assert {name for _, name in ended} == set(jobs), output[-2000:]
    return {name for result, name in ended if result == "FAIL"}


def _rust(jobs: Jobs, folder: Path) -> set[str]:
    modules = [f"mod j{i} {{\n{candidate}\n{tests}\n}}" for i, (candidate, tests) in enumerate(jobs.values())]
    (folder / "jobs.rs").write_text("\n".join(modules))
    _checked("rustc", "--edition=2021", "--cap-lints=allow", "--test", "jobs.rs", "-o", "jobs", folder=folder)
    output = _run(folder / "jobs", folder=folder).stdout
    ended = {
        int(i): result for i, result in re.findall(r"^test j(\d+)::tests::mini \.\.\. (\w+)", output, re.MULTILINE)
    }
    assert set(ended) == set(range(len(jobs))), output[-2000:]
    return {name for i, name in enumerate(jobs) if ended[i] != "ok"}


def _java(jobs: Jobs, folder: Path) -> set[str]:
    imports, classes, calls = dict[str, None](), [], []
    for number, (name, parts) in enumerate(jobs.items()):
        imports |= dict.fromkeys(re.findall(r"^import .*;", parts[0], re.MULTILINE))
        body = re.sub(r"^import .*;", "", "\n".join(parts), flags=re.MULTILINE)
        classes.append(f"class J{number} {{\n{re.sub(r'^class ', 'static class ', body, flags=re.MULTILINE)}\n}}")
        calls.append(f'try {{ J{number}.Main.main(args); }} catch (Throwable e) {{ System.out.println("{name}"); }}')
    main = ["class Jobs {", "public static void main(String[] args) {", *calls, "}", "}"]
    (folder / "Jobs.java").write_text("\n".join([*imports, *classes, *main]))
    _checked("javac", "-nowarn", "Jobs.java", folder=folder)
    return set(_checked("java", "Jobs", folder=folder).split())


def _cpp(jobs: Jobs, folder: Path) -> set[str]:
    includes, spaces, calls = dict[str, None](), [], []
    for number, (name, parts) in enumerate(jobs.items()):
        text = "\n".join(parts)
        includes |= dict.fromkeys(re.findall(r"^#include .*", text, re.MULTILINE))
        body = re.sub(r"^#include .*", "", text, flags=re.MULTILINE).replace("int main()", "int run()")
        spaces.append(f"namespace job{number} {{\n{body}\n}}")
        calls.append(f'if (fork() == 0) return job{number}::run(); wait(&status); if (status) puts("{name}");')
    head = [*includes, "#include <cstdio>", "#include <sys/wait.h>", "#include <unistd.h>"]
    main = ["int main() {", "setvbuf(stdout, nullptr, _IONBF, 0); int status;", *calls, "return 0;", "}"]
    (folder / "jobs.cpp").write_text("\n".join([*head, *spaces, *main]))
    _checked("g++", "-std=c++17", "-O0", "-w", "jobs.cpp", "-o", "jobs", folder=folder)
    return set(_checked(folder / "jobs", folder=folder).split())


_RUNNERS = {
    "python": _python,
    "javascript": _javascript,
    "typescript": _typescript_jobs,
    "go": _go,
    "rust": _rust,
    "java": _java,
    "cpp": _cpp,
}
