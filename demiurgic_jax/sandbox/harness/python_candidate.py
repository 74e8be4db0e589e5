"""The candidate's side: it loads the candidate and answers what the tests ask of it. It never sees a test."""

import operator

BY_NAME = "eq ne lt le gt ge add sub mul truediv floordiv mod pow matmul neg pos"
OPERATIONS = {
    "call": lambda called, args, kwargs: called(*args, **kwargs),
    "get": getattr,
    "set": setattr,
    "delete": delattr,
    "len": len,
    "bool": bool,
    "iter": iter,
    "next": next,
    "repr": repr,
    "str": str,
    "hash": hash,
    "int": int,
    "float": float,
    "index": operator.index,
    "abs": abs,
    "reversed": reversed,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "contains": operator.contains,
    "isinstance": lambda kind, value: isinstance(value, kind),
    "enter": lambda value: value.__enter__(),
    "exit": lambda value, *error: value.__exit__(None, None, None),
    **{name: getattr(operator, name) for name in BY_NAME.split()},
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "invert": operator.invert,
    "await": lambda awaitable: run_to_end(awaitable),
}
CHANGEABLE = (list, dict, set, bytearray, collections.deque)


def run_to_end(awaitable):
    import asyncio

    async def wait():
        return await awaitable

    return asyncio.run(wait())


class FromTests:
    """A callable or an iterator of the tests, which stays there."""

    def __init__(self, peer, number):
        self._peer, self._number = peer, number

    def __call__(self, *args, **kwargs):
        return self._peer.call_back("call", self._number, args, kwargs)

    def __iter__(self):
        return self

    def __next__(self):
        return self._peer.call_back("next", self._number, (), {})


class CandidateSide(Peer):
    def encode_other(self, value):
        if isinstance(value, FromTests):
            return ["yours", value._number]
        plain = None if isinstance(value, BaseException) else self.encode_subclass(value)
        if plain is not None:
            return plain[0]
        self.objects[id(value)] = value
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["error class", id(value), lineage(value)]
        return ["handle", id(value)]

    def decode_other(self, kind, number):
        return FromTests(self, number) if kind == "handle" else self.objects[number]

    def call_back(self, operation, number, args, kwargs):
        arguments = [["list", *map(self.encode, args)], ["dict", *([k, self.encode(v)] for k, v in kwargs.items())]]
        self.send(["callback", operation, number, *arguments])
        answer = self.receive()
        if answer is None:
            os._exit(1)
        if answer[0] == "raise":
            raise getattr(__import__("builtins"), answer[1], RuntimeError)(answer[2])
        return self.decode(answer[1])

    def answer(self, operation, *data):
        values = [self.decode(each) for each in data]
        # A list that is sorted in place is the tests' list: what changed in an argument goes back.
        before = [(place, each) for place, each in enumerate(data[1][1:])] if operation == "call" else []
        try:
            result = OPERATIONS[operation](*values)
            reply = ["ok", self.encode(result)]
        except BaseException as error:
            reply = ["raise", id(type(error)), lineage(type(error)), self.message(error)]
        after = [(place, self.encode(values[1][place])) for place, each in before if type(each) is list and
                 type(values[1][place]) in CHANGEABLE]  # fmt: skip
        changed = [[place, now] for place, now in after if now != data[1][1 + place]]
        return [*reply, changed, sys.stdout.take()]

    def message(self, error):
        try:
            return [[each for each in error.args if type(each) in (str, int, float, bool)], str(error)]
        except BaseException:
            return [[], ""]


def lineage(kind):
    return [[each.__module__, each.__name__] for each in kind.__mro__ if issubclass(each, BaseException)]


def load(peer, source):
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    sys.argv = ["candidate.py"]
    with open("candidate.py", "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(source)
    exec(compile(source, "candidate.py", "exec"), module.__dict__)
    names = {name: value for name, value in module.__dict__.items() if not isinstance(value, types.ModuleType)}
    names = {name: peer.encode(value) for name, value in names.items() if not name.startswith("__")}
    return names


def main():
    _, job, receive, send = sys.argv
    prepare_modules()
    peer = CandidateSide(int(receive), int(send))
    source = read_job(job)["candidate"]
    sys.stdout = Output()
    try:
        names = load(peer, source)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        peer.send(["raise", id(type(error)), lineage(type(error)), peer.message(error), [], sys.stdout.take()])
        os._exit(1)
    peer.send(["loaded", names, sys.stdout.take()])
    while (message := peer.receive()) is not None:
        peer.send(peer.answer(*message))
    os._exit(0)


main()
