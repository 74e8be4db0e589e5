"""Secrets and personal data become placeholders, code goes on parsing, and clean code is left alone."""

import base64
import random
import string
from collections import Counter
from itertools import islice

import pytest

from demiurgic_jax.curation.code import parses
from demiurgic_jax.curation.secrets import find, redact
from demiurgic_jax.curation.sources import read_folder, standard_library
from demiurgic_jax.errors import UserError

LETTERS, UPPER, HEX = string.ascii_letters + string.digits, string.ascii_uppercase + string.digits, "0123456789abcdef"


def made(rng: random.Random) -> dict[str, tuple[str, str]]:
    """One secret of each kind, made by chance here, and a line of Python that holds it."""

    def of(alphabet: str, length: int) -> str:
        return "".join(rng.choices(alphabet, k=length))

    def token(part: int) -> str:
        return base64.urlsafe_b64encode(rng.randbytes(part)).decode().rstrip("=")

    plain = {
        "aws id": "AKIA" + of(UPPER, 16),
        "github": "ghp_" + of(LETTERS, 36),
        "github fine": "github_pat_" + of(LETTERS, 22) + "_" + of(LETTERS, 59),
        "gitlab": "glpat-" + of(LETTERS, 20),
        "slack": f"xoxb-{of('123456789', 11)}-{of('123456789', 12)}-{of(LETTERS, 24)}",
        "stripe": "sk_live_" + of(LETTERS, 24),
        "google": "AIza" + of(LETTERS, 35),
        "openai": "sk-proj-" + of(LETTERS, 48),
        "anthropic": "sk-ant-api03-" + of(LETTERS, 90),
        "hugging face": "hf_" + of(string.ascii_letters, 34),
        "npm": "npm_" + of(LETTERS, 36),
        "pypi": "pypi-AgEIcHlwaS5vcmc" + of(LETTERS, 60),
        "sendgrid": f"SG.{of(LETTERS, 22)}.{of(LETTERS, 43)}",
        "twilio": "SK" + of(HEX, 32),
        "mailchimp": of(HEX, 32) + "-us12",
        "digitalocean": "dop_v1_" + of(HEX, 64),
        "shopify": "shpat_" + of(HEX, 32),
        "telegram": of("123456789", 10) + ":AA" + of(LETTERS, 33),
        "databricks": "dapi" + of(HEX, 32),
        "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJ{token(30)}.{token(32)}",
    }
    lines = {kind: (secret, f'client.connect("{secret}")') for kind, secret in plain.items()}
    aws, password, key = of(LETTERS + "+/", 40), of(LETTERS + "!#%", 16), of(LETTERS, 32)
    body = "\n".join(base64.b64encode(rng.randbytes(48)).decode() for _ in range(6))
    lines["aws secret"] = (aws, f'aws_secret_access_key = "{aws}"')
    lines["password"] = (password, f"settings = {{'db_password': '{password}'}}")
    lines["api key"] = (key, f'API_KEY: str = "{key}"')
    lines["url"] = (key, f'URL = "postgres://admin:{key}@db.internal:5432/x"')
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    lines["private key"] = (body.split("\n")[2], f'KEY = """{pem}\n"""')
    return lines


def test_of_planted_secrets_98_in_100_are_gone_and_the_code_parses():
    folder, licence = standard_library()
    texts = [file.text for file in islice(read_folder(folder, licence=licence, max_bytes=8000), 60)]
    missed, total = Counter(), 0
    for number in range(10):
        rng = random.Random(number)
        for kind, (secret, line) in made(rng).items():
            text = rng.choice(texts) + f"\n\ndef planted():\n    return [\n        {line.split(' = ', 1)[-1]}\n    ]\n"
            if kind in ("aws secret", "password", "api key"):
                text = rng.choice(texts) + "\n" + line + "\n"
            total += 1
            clean = redact(text)
            missed[kind] += secret in clean
            assert parses(clean, "python"), kind
            assert clean.count("\n") == text.count("\n")
            assert redact(clean) == clean
    assert total == 250
    assert sum(missed.values()) <= 0.02 * total, missed


def test_clean_files_are_left_alone():
    """Of the standard library less than one file in a hundred: its authors' addresses are in notices, which stay."""
    folder, licence = standard_library()
    files = list(islice(read_folder(folder, licence=licence, max_bytes=20_000), 250))
    touched = [file.path for file in files if find(file.text)]
    assert len(touched) <= 0.01 * len(files), touched


PERSONAL = {
    'send("ada.lovelace@analytical.engine.org")': 'send("REDACTED_EMAIL")',
    'HOST = "93.184.216.34:80"': 'HOST = "REDACTED_IP_ADDRESS:80"',
    'dns = "2606:2800:220:1:248:1893:25c8:1946"': 'dns = "REDACTED_IP_ADDRESS"',
}
NOT_PERSONAL = [
    'to = "user@example.com"', 'clone("git@github.com:a/b.git")', "@functools.wraps(f)", "c = a@b.T", 'x = "127.0.0.1"',
    'y = "192.168.10.20"', 'z = "203.0.113.77"', "# version 10.15.77.99", 'at = "12:30:45"', 'w = "1.2.3.4"',
    'url = "http://user:password@localhost/"', 'token = "your-token-goes-here-12345"',
    'net = "93.184.216.0/24"', 'sha = "3f786850e387550fdab836ed7e6dc881de23001b"',
]  # fmt: skip


@pytest.mark.parametrize("text", PERSONAL)
def test_addresses_of_people_and_machines_are_replaced(text):
    assert redact(text) == PERSONAL[text]
    assert redact(text, ("secrets",)) == text


NOTICES = [
    "# Written by Ada <ada@analytical.engine.org>",
    "/* Copyright (c) 1843 Ada Lovelace (ada@analytical.engine.org)\n *               1871 babbage@engine.org */",
    "// Maintainer: babbage@engine.org",
    '__author__ = ("Ada <ada@engine.org>, "\n  "babbage@engine.org")',
]


@pytest.mark.parametrize("text", NOTICES)
def test_an_address_in_a_notice_stays_unless_authors_are_to_go(text):
    assert redact(text) == text
    assert "@" not in redact(text, ("emails", "authors"))
    assert redact(text, ("authors",)) == text


def test_a_notice_elsewhere_in_the_file_makes_no_notice_of_a_list():
    text = "# Copyright 1843 Ada\n\nusers = [\n" + "".join(f"  'user{n}@engine.org',\n" for n in range(9)) + "]\n"
    assert redact(text).count("REDACTED_EMAIL") == 9


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_what_is_reserved_for_examples_and_local_use_stays(text):
    assert redact(text) == text


def test_what_is_redacted_is_counted_and_unknown_kinds_are_named():
    counts: Counter[str] = Counter()
    redact(f"{next(iter(PERSONAL))}\nx = 'AKIA{'Q7' * 8}'\n", counts=counts)
    assert counts == {"EMAIL": 1, "AWS_ACCESS_KEY_ID": 1}
    with pytest.raises(UserError, match="'phones' is nothing"):
        redact("", ("phones",))
