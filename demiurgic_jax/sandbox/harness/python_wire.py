"""Plain data over a pipe between two interpreters, neither of which need trust the other.

This text is put before python_candidate.py or python_tests.py, compiled, and run by an interpreter in the sandbox.
A message is four bytes of length and JSON. Containers are lists that begin with their kind; what is not plain data
stays where it is and goes over as a handle, a number that only its owner can turn back into the object.
"""

import collections
import datetime
import io
import json
import os
import sys
import types

LARGEST_MESSAGE = 32 << 20
FLAT = {
    complex: ("complex", lambda value: [value.real, value.imag]),
    bytes: ("bytes", lambda value: [value.hex()]),
    bytearray: ("bytearray", lambda value: [value.hex()]),
    range: ("range", lambda value: [hex(value.start), hex(value.stop), hex(value.step)]),
    datetime.datetime: ("datetime", lambda value: [value.isoformat()]),
    datetime.date: ("date", lambda value: [value.isoformat()]),
    datetime.time: ("time", lambda value: [value.isoformat()]),
    datetime.timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
}
# By module and name, since to load these takes longer than most programs.
LATE = {
    ("decimal", "Decimal"): lambda value: [str(value)],
    ("fractions", "Fraction"): lambda value: [hex(value.numerator), hex(value.denominator)],
}
SEQUENCES = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    collections.deque: "deque",
}
MAPPINGS = {
    dict: "dict",
    collections.OrderedDict: "ordereddict",
    collections.Counter: "counter",
    collections.defaultdict: "dict",
}
VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
BUILD = {
    "int": lambda text: int(text, 16),
    "complex": complex,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda *bounds: range(*(int(each, 16) for each in bounds)),
    "decimal": lambda text: __import__("decimal").Decimal(text),
    "fraction": lambda top, bottom: __import__("fractions").Fraction(int(top, 16), int(bottom, 16)),
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": datetime.timedelta,
    "list": lambda *items: list(items),
    "tuple": lambda *items: items,
    "set": lambda *items: set(items),
    "frozenset": lambda *items: frozenset(items),
    "deque": lambda *items: collections.deque(items),
    "dict": lambda *pairs: dict(pairs),
    "ordereddict": lambda *pairs: collections.OrderedDict(pairs),
    "counter": lambda *pairs: collections.Counter(dict(pairs)),
}


class Peer:
    """One end of the pipe: it encodes and decodes, and remembers the objects that it gave handles for."""

    def __init__(self, receive, send):
        self.receive_from, self.send_to = receive, send
        self.objects = {}
        # Bound now: a candidate may replace what these names mean.
        self._read, self._write, self._dumps, self._loads = os.read, os.write, json.dumps, json.loads

    def send(self, message):
        data = self._dumps(message).encode()
        if len(data) > LARGEST_MESSAGE:
            raise MemoryError("a value is too large to be passed on")
        data = memoryview(len(data).to_bytes(4, "big") + data)
        while data:
            data = data[self._write(self.send_to, data) :]

    def receive(self):
        """The next message, or None once the other side has ended."""
        header = self._exactly(4)
        length = int.from_bytes(header or b"", "big")
        if header is None or length > LARGEST_MESSAGE:
            return None
        data = self._exactly(length)
        return None if data is None else self._loads(data)

    def _exactly(self, count):
        data = bytearray()
        while len(data) < count:
            part = self._read(self.receive_from, min(count - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return bytes(data)

    def encode(self, value):
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is float:
            return value
        if kind is int:
            return value if -(1 << 62) < value < 1 << 62 else ["int", hex(value)]
        if kind in FLAT:
            name, parts = FLAT[kind]
            return [name, *parts(value)]
        if kind in SEQUENCES:
            return [SEQUENCES[kind], *map(self.encode, value)]
        if kind in MAPPINGS:
            return [MAPPINGS[kind], *([self.encode(key), self.encode(item)] for key, item in value.items())]
        if kind in VIEWS:
            return ["list", *map(self.encode, value)]
        for (module, name), parts in LATE.items():
            if kind is getattr(sys.modules.get(module), name, None):
                return [name.lower(), *parts(value)]
        return self.encode_other(value)

    def encode_subclass(self, value):
        """Named tuples, enums of numbers and their like, as the plain data that they are; None for the rest."""
        for plain in (str, int, float):
            if isinstance(value, plain):
                return [self.encode(plain.__new__(plain, value))]
        if isinstance(value, tuple):
            return [["tuple", *map(self.encode, tuple.__iter__(value))]]
        for plain in (list, dict, set):
            if isinstance(value, plain):
                return [self.encode(plain(value))]
        return None

    def decode(self, data):
        if type(data) is not list:
            return data
        kind, *parts = data
        if kind in ("dict", "ordereddict", "counter"):
            return BUILD[kind](*((self.decode(key), self.decode(item)) for key, item in parts))
        if kind in BUILD:
            return BUILD[kind](*map(self.decode, parts))
        return self.decode_other(kind, *parts)


class Output(io.TextIOBase):
    """A standard stream that is kept, to go over with the next answer."""

    def __init__(self):
        self.parts = []

    def write(self, text):
        self.parts.append(str(text))
        return len(text)

    def writable(self):
        return True

    def take(self):
        text, self.parts = "".join(self.parts), []
        return text


def read_job(descriptor):
    """The job, read to its end and out of reach afterwards."""
    with os.fdopen(int(descriptor), "rb") as file:
        return json.loads(file.read())


def prepare_modules():
    """What most programs import, loaded before there is one, and the names that `site` would have given."""
    import bisect, builtins, copy, functools, gc, heapq, math, operator, random, re, string, typing  # noqa: E401, I001

    def leave(code=None):
        raise SystemExit(code)

    builtins.exit = builtins.quit = leave
    # Otherwise each program spends 5 ms at its end on collecting what was loaded here.
    gc.freeze()
