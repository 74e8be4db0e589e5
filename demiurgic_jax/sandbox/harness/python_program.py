"""Runs a program as a script, in an interpreter that was started ahead."""


def main():
    _, job = sys.argv
    prepare_modules()
    source = read_job(job)
    path = os.path.abspath("program.py")
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    sys.argv = [path]
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = path
    exec(compile(source, path, "exec"), module.__dict__)


main()
