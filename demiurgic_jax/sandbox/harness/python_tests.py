"""The tests' side: it runs the tests, asks the candidate over the pipe, and reports how they ended.

What comes back from the candidate is plain data, or a stand-in for an object that stays over there. A stand-in equals
no plain data, whatever the object says of itself.
"""

import ast
import importlib

# From these a test may use what the candidate imported by name, imported afresh here: none of it compares as it likes.
HONEST = {"abc", "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "heapq", "itertools"}
HONEST |= {"math", "re", "statistics", "string", "typing"}


class LeftEarlyError(Exception):
    """The candidate's process ended before it answered."""


class StandIn:
    """An object of the candidate's. `_open` where the tests made it from one of the candidate's classes."""

    def __init__(self, peer, number, opened=False, makes_instances=False):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_open", opened)
        object.__setattr__(self, "_makes_instances", makes_instances)

    def _ask(self, operation, *values):
        result = self._peer.ask(operation, self, *values)
        if type(result) is StandIn and (self._open or (self._makes_instances and operation == "call")):
            object.__setattr__(result, "_open", True)
        return result

    def _ask_plainly(self, operation, kind, *values):
        result = self._ask(operation, *values)
        if type(result) is not kind:
            raise TypeError(f"{operation} of the candidate's object gave no {kind.__name__}")
        return result

    def _ask_pair(self, operation, other):
        if not (self._open or type(other) is StandIn):
            raise TypeError("the candidate returned an object that is not plain data")
        return self._ask(operation, other)

    def __call__(self, *args, **kwargs):
        result = self._peer.ask_call(self, args, kwargs)
        if type(result) is StandIn and (self._open or self._makes_instances):
            object.__setattr__(result, "_open", True)
        return result

    def __getattr__(self, name):
        return self._ask("get", name)

    def __setattr__(self, name, value):
        self._ask("set", name, value)

    def __delattr__(self, name):
        self._ask("delete", name)

    def __eq__(self, other):
        return type(other) is StandIn and (other._number == self._number or self._ask_plainly("eq", bool, other))

    def __ne__(self, other):
        return not self == other

    def __contains__(self, value):
        return self._ask_plainly("contains", bool, value) if self._open else any(value == each for each in self)

    def __len__(self):
        return self._ask_plainly("len", int)

    def __bool__(self):
        return self._ask_plainly("bool", bool)

    def __hash__(self):
        return self._ask_plainly("hash", int)

    def __repr__(self):
        return self._ask_plainly("repr", str)

    def __str__(self):
        return self._ask_plainly("str", str)

    def __int__(self):
        return self._ask_plainly("int", int)

    def __float__(self):
        return self._ask_plainly("float", float)

    def __index__(self):
        return self._ask_plainly("index", int)

    def __next__(self):
        return self._ask("next")

    def __instancecheck__(self, value):
        return type(value) is StandIn and self._ask_plainly("isinstance", bool, value)


for _name in ("iter", "enter", "exit", "getitem", "setitem", "delitem", "reversed", "abs", "neg", "pos", "invert"):
    setattr(StandIn, f"__{_name}__", lambda self, *values, _name=_name: self._ask(_name, *values))
for _name in [
    "lt",
    "le",
    "gt",
    "ge",
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
]:
    setattr(StandIn, f"__{_name}__", lambda self, other, _name=_name: self._ask_pair(_name, other))
StandIn.__await__ = lambda self: iter_of(self._ask("await"))


def iter_of(value):
    return value
    yield


class TestsSide(Peer):
    def __init__(self, receive, send, classes):
        super().__init__(receive, send)
        self.classes, self.errors, self.asked = classes, {}, 0

    def encode_other(self, value):
        if type(value) is StandIn:
            return ["yours", value._number]
        if isinstance(value, type) and value in self.errors.values():
            return ["yours", next(number for number, each in self.errors.items() if each is value)]
        plain = self.encode_subclass(value)
        if plain is not None:
            return plain[0]
        if callable(value) or hasattr(value, "__next__"):
            self.objects[id(value)] = value
            return ["handle", id(value)]
        if hasattr(value, "__iter__"):
            return self.encode_other(iter(value))
        raise TypeError(f"a {type(value).__name__} of the tests cannot be handed to the candidate")

    def decode_other(self, kind, number, *rest):
        if kind == "yours":
            return self.objects[number]
        return self.error_class(number, rest[0]) if kind == "error class" else StandIn(self, number)

    def error_class(self, number, lineage):
        """The exception's own class where it is Python's, else one of the same name and the nearest such base."""
        if number not in self.errors:
            bases = [each for each in map(known_error, lineage) if each]
            known = known_error(lineage[0])
            self.errors[number] = known or type(str(lineage[0][1]), (bases[0] if bases else Exception,), {})
        return self.errors[number]

    def ask(self, operation, *values):
        return self.exchange([operation, *map(self.encode, values)])[0]

    def ask_call(self, called, args, kwargs):
        self.asked += 1
        message = ["call", self.encode(called), self.encode(args), self.encode(kwargs)]
        result, changed = self.exchange(message)
        for place, data in changed:
            change(args[place], self.decode(data))
        return result

    def exchange(self, message):
        self.send(message)
        answer = self.receive()
        while answer is not None and answer[0] == "callback":
            self.send(self.called_back(*answer[1:]))
            answer = self.receive()
        if answer is None:
            raise LeftEarlyError("the candidate's process ended before it answered")
        sys.stdout.write(answer[-1])
        if answer[0] == "raise":
            error = self.error(*answer[1:4])
            # In a loop of the tests it would end the loop, and with it the assertions: see PEP 479.
            if isinstance(error, StopIteration | StopAsyncIteration) and message[0] != "next":
                raise RuntimeError(f"the candidate raised {type(error).__name__}")
            raise error
        return self.decode(answer[1]), answer[2]

    def called_back(self, operation, number, args, kwargs):
        try:
            called = self.objects[number]
            args, kwargs = self.decode(args), self.decode(kwargs)
            return ["ok", self.encode(called(*args, **kwargs) if operation == "call" else next(called))]
        except Exception as error:
            return ["raise", type(error).__name__, str(error)]

    def error(self, number, lineage, message):
        kind = self.error_class(number, lineage)
        arguments, text = message
        try:
            error = kind(*arguments)
        except Exception:
            error = kind.__new__(kind)
        if str(error) != text:
            error.args = (text,)
        return error


def known_error(pair):
    module, name = pair
    package = module.partition(".")[0]
    # An exception of unittest's own would have the candidate say that a test is to be skipped.
    if package not in sys.stdlib_module_names or package == "unittest":
        return None
    found = getattr(importlib.import_module(module), name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def change(value, now):
    if type(value) is list or type(value) is bytearray:
        value[:] = now
    elif type(value) is not tuple:
        value.clear()
        value.extend(now) if isinstance(value, collections.deque) else value.update(now)


def own_imports(tree):
    """The candidate's imports that are made here too: modules of the standard library, and names from honest ones."""
    for node in tree.body:
        if (
            isinstance(node, ast.Import)
            and all(alias.name.partition(".")[0] in sys.stdlib_module_names for alias in node.names)
        ) or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in HONEST):
            yield node


def is_routine(value):
    """What inspect calls so; to load that takes longer than most tests."""
    kind = type(value)
    bound = hasattr(kind, "__get__") and not hasattr(kind, "__set__")
    return not isinstance(value, type) and (bound or kind is types.BuiltinFunctionType)


def bind(peer, names, namespace, tree):
    defined = {node.name for node in tree.body if hasattr(node, "name")}
    for node in own_imports(tree):
        try:
            exec(compile(ast.Module([node], []), "imports", "exec"), namespace)
        except ImportError:
            continue
    for name, data in names.items():
        # A function that was imported is the candidate's choice of an answer, and is asked for like its own.
        if name not in namespace or name in defined or is_routine(namespace[name]):
            value = peer.decode(data)
            if type(value) is StandIn and name in peer.classes:
                object.__setattr__(value, "_makes_instances", True)
            namespace[name] = value


def why_not_loaded(message):
    if message is None:
        return "the candidate left while it was loaded"
    _, _, lineage, (_, text), *_ = message
    return f"{lineage[0][1]}: {text}"


def show_source(source):
    """Lets tracebacks show lines of the tests, of which there is no file."""
    import linecache

    linecache.cache["tests.py"] = (len(source), None, source.splitlines(True), "tests.py")


def run_collected(namespace, before, source):
    """Test functions and cases that the tests define and leave to a runner."""
    # Not imported for tests that do without it: that would take longer than they do.
    unittest = sys.modules.get("unittest")
    for name, value in [*namespace.items()]:
        if name in before or not callable(value) or type(value) is StandIn:
            continue
        if unittest and isinstance(value, type) and issubclass(value, unittest.TestCase):
            show_source(source)
            run_cases(unittest.defaultTestLoader.loadTestsFromTestCase(value))
        elif name.startswith("test") and type(value) is types.FunctionType:
            from inspect import signature

            if not signature(value).parameters:
                value()


def run_cases(suite):
    import unittest

    if not unittest.TextTestRunner(stream=sys.stderr).run(suite).wasSuccessful():
        raise AssertionError("a test case failed")


def main():
    _, job, report, receive, send = sys.argv
    prepare_modules()
    job, report = read_job(job), int(report)
    try:
        tree = ast.parse(job["candidate"])
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    entry = job["entry_point"]
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)} - {entry}
    peer = TestsSide(int(receive), int(send), classes)
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = module.__dict__
    sys.argv = ["tests.py"]
    loaded = peer.receive()
    if loaded is None or loaded[0] != "loaded":
        os.write(report, why_not_loaded(loaded).encode("utf-8", "replace")[:1000])
        os._exit(1)
    sys.stdout.write(loaded[-1])
    source = job["tests"] + (f"\n\ncheck({entry})\n" if entry and "def check(" in job["tests"] else "")
    try:
        bind(peer, loaded[1], namespace, tree)
        namespace["candidate"] = namespace.get(entry)
        before = {*namespace}
        exec(compile(source, "tests.py", "exec"), namespace)
        run_collected(namespace, before, source)
        if not peer.asked:
            raise AssertionError("the tests never call the candidate")
    except BaseException as error:
        sys.stdout.flush()
        import traceback

        show_source(source)
        traceback.print_exc()
        os.write(report, f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:1000])
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(report, job["held"].encode())
    os._exit(0)


main()
