"""Keys, passwords and personal data in source code, and their replacement by placeholders that keep it parsing.

A placeholder is a word of capitals, REDACTED_ and what stood there: valid inside of a string, of a comment and, where
it must, as a name. Vendors' token formats are from their documentation and from detect-secrets, whose patterns for
fixed formats are used as they are.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from demiurgic_jax.errors import UserError

KINDS = ("secrets", "emails", "addresses", "authors")
# An address in a notice was published there by its owner, and licences ask to keep notices as they are: so those stay,
# unless "authors" is asked for besides "emails".
USUAL_KINDS = ("secrets", "emails", "addresses")

# Formats that say themselves what they are: kind, one of the words that a text with it holds (to look no further in
# the others), pattern. Where a group is called "value", that alone is replaced.
_FORMATS: tuple[tuple[str, str, str], ...] = (
    ("AWS_ACCESS_KEY_ID", "AKIA ASIA ABIA ACCA", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
    ("GITHUB_TOKEN", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}"
                                                             r"|github_pat_[A-Za-z0-9_]{60,255})\b"),
    ("GITLAB_TOKEN", "glpat- gldt- glrt- glptt- glsoat- glft- glimt- glagent- glcbt-", r"\bgl(?:pat|dt|rt|ptt|soat"
                                                                                       r"|ft|imt|agent"
                                                                                       r"|cbt)-[A-Za-z0-9_-]{20,80}"),
    ("SLACK_TOKEN", "xox", r"\bxox[abeoprs]-(?:\d+-)*[A-Za-z0-9-]{10,120}"),
    ("SLACK_WEBHOOK", "hooks.slack.com", r"hooks\.slack\.com/services/(?P<value>T[A-Za-z0-9_]+/B[A-Za-z0-9_]+/[A-Za-"
                                         r"z0-9_]+)"),
    ("DISCORD_TOKEN", "", r"\b[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}\b"),
    ("DISCORD_WEBHOOK", "/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/(?P<value>\d{17,20}/[A-Za-z0-9_-]{60,})"),
    ("STRIPE_KEY", "k_live_ k_test_ whsec_", r"\b(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{16,247}\b"
                                             r"|\bwhsec_[A-Za-z0-9+/]{32,}"),
    ("SQUARE_KEY", "sq0", r"\bsq0(?:csp|atp|idp)-[0-9A-Za-z_-]{22,43}\b"),
    ("GOOGLE_API_KEY", "AIza", r"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    ("GOOGLE_OAUTH_SECRET", "GOCSPX- ya29.", r"\bGOCSPX-[0-9A-Za-z_-]{28}(?![0-9A-Za-z_-])|\bya29\.[0-9A-Za-z_-]{30,}"),
    ("OPENAI_KEY", "sk-", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{0,100}T3BlbkFJ[A-Za-z0-9_-]{20,}"
                          r"|\bsk-proj-[A-Za-z0-9_-]{40,}"
                   r"|\bsk-[A-Za-z0-9]{48}\b"),
    ("ANTHROPIC_KEY", "sk-ant-", r"\bsk-ant-[a-z0-9]{3,8}-[A-Za-z0-9_-]{32,}"),
    ("HUGGINGFACE_TOKEN", "hf_ api_org_", r"\b(?:hf|api_org)_[A-Za-z]{34}\b"),
    ("NPM_TOKEN", "npm_ _authToken", r"\bnpm_[A-Za-z0-9]{36}\b|_authToken\s*=\s*(?P<value>[0-9a-f-]{36})"),
    ("PYPI_TOKEN", "pypi-AgE", r"\bpypi-AgE(?:I|N)[A-Za-z0-9_-]{40,}"),
    ("SENDGRID_KEY", "SG.", r"\bSG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}"),
    ("TWILIO_KEY", "AC SK", r"\b(?:AC|SK)[0-9a-f]{32}\b"),
    ("MAILCHIMP_KEY", "-us", r"\b[0-9a-f]{32}-us\d{1,2}\b"),
    ("MAILGUN_KEY", "key-", r"\bkey-[0-9a-f]{32}\b"),
    ("DIGITALOCEAN_TOKEN", "_v1_", r"\bdo[opr]_v1_[0-9a-f]{64}\b"),
    ("SHOPIFY_TOKEN", "shpat_ shpca_ shppa_ shpss_", r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b"),
    ("TELEGRAM_TOKEN", ":AA", r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    ("DATABRICKS_TOKEN", "dapi", r"\bdapi[0-9a-f]{32}(?:-\d)?\b"),
    ("AZURE_STORAGE_KEY", "AccountKey=", r"AccountKey=(?P<value>[A-Za-z0-9+/]{86}==)"),
    ("AZURE_SAS_SIGNATURE", "sig=", r"[?&]sig=(?P<value>[A-Za-z0-9%+/]{40,}(?:%3D|=))"),
    ("LINEAR_KEY", "lin_", r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,64}\b"),
    ("NOTION_TOKEN", "ntn_", r"\bntn_[A-Za-z0-9]{40,50}\b"),
    ("VAULT_TOKEN", "hvs. hvb. hvr.", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("DOCKER_TOKEN", "dckr_", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,36}"),
    ("GRAFANA_TOKEN", "glsa_", r"\bglsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}\b"),
    ("PULUMI_TOKEN", "pul-", r"\bpul-[0-9a-f]{40}\b"),
    ("AGE_KEY", "AGE-SECRET-KEY-1", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
    ("JSON_WEB_TOKEN", "eyJ", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("URL_PASSWORD", "://", r"(?<=[a-z0-9])://[^\s/:@\"'`<>{}$%()\[\],]{0,80}:(?P<value>[^\s/:@\"'`<>{}$()\[\],]{3,1"
                            r"20})@"
                     r"[A-Za-z0-9]"),
    ("URL_TOKEN", "token= key= secret=", r"[?&](?:access_token|auth_token|api_?key|client_secret"
                                         r"|private_token)=(?P<value>[A-Za-z0-9_.%-]{20,})"),
)  # fmt: skip
# What is named like a secret and is random enough to be one. The name is what keeps hashes of files out.
_QUOTED = re.compile(r"(?<![\w\"'`])([\"'`])(?P<value>[^\s\"'`\\]{12,200})\1")
_NAMED = re.compile(
    r"(?i)(?:api[_-]?key|secret|token|passw(?:or)?d|passwd|pwd|credential|auth[_-]?key|access[_-]?key|private[_-]?key"
    r"|encryption[_-]?key)[a-z0-9_]{0,20}[\"'\]]{0,2}\s{0,4}(?::\s*(?:str|string|&str|&'static str)\s*)?(?:=>|:=|[=:"
    r",(])\s{0,4}$"
)
_BASE64_40 = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_AWS_NAMED = re.compile(r"(?i)aws[\s\S]{0,60}?(?:secret|key)|secret_?access_?key")
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?P<body>[\s\S]{16,8000}?)-----END [A-Z0-9 ]{0,40}PRI"
    r"VATE KEY"
)
_PEM_LINE = re.compile(r"[A-Za-z0-9+/=]{16,}")
_LOCAL_PART = re.compile(r"(?:^|(?<![\w.+/@%-]))[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}\Z")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,12}(?![\w@(-]|\.\w)")
# A range of a network (192.0.2.0/24) is nobody's address.
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w|/\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{9,39}(?![\w:.]|/\d)")

_RESERVED_DOMAINS = re.compile(
    r"(?:^|\.)(?:example|test|invalid|localhost|local|internal)(?:\.(?:com|org|net|edu))?$|^(?:domain|foo|bar|host"
    r"|server|"
    r"yourdomain|company|email|mail|site|x|y|z|a|b|c)\.(?:com|org|net|tld|example|fr|de|io|co|bar|foo)$"
    r"|^users\.noreply\.|"
    r"\.(?:png|jpe?g|gif|svg|js|py|css|html?|json|shape|T|dot)$",
    re.IGNORECASE,
)
# Copyright, authors, maintainers, thanks, and whom to write to; `Name Surname <address>` is how a notice names one.
_NOTICE = re.compile(
    r"(?i:copyright|\(c\)|©|authors?(?![a-z])|__email__|maintain|(?:written|contributed|modified|ported|provided"
    r"|created|reported|implemented|originally|fixed|based on \w+)\b.{0,40}\bby\b|contribut|licen[cs]e|thanks"
    r"|credits?\b|bugs?\b|contact|mailing list|patch|e-?mail:|questions)|\b[A-Z][\w.'-]+ [^\W\da-z_][\w.'-]+,? *[<(]"
)
_NOTICE_LINES, _NOTICE_CHARACTERS = 4, 600
_SERVICE_NAMES = frozenset(
    [
        "git", "hg", "svn", "ssh", "root", "user", "username", "noreply", "no-reply", "test", "foo", "bar", "name",
        "me", "you", "someone",
    ]
)  # fmt: skip
# What documentation writes where a password would stand.
_PASSWORD_WORD = re.compile(
    r"(?i)(?:my)?_?(?:pass(?:word|wd)?|pwd|secret|token|x{3,}|user(?:name)?|foo|bar|test|\*+|REDACTED_\w+)"
)
_NOT_SECRET = re.compile(
    r"(?i)example|placeholder|changeme|change_me|your|dummy|fake|sample|redacted|\bxxx|xxxx|\*\*\*|\.\.\.|<|\{|\$|%s"
    r"|%\(|"
    r"^[a-z]+$|^[A-Z_]+$|^[a-z]+(?:[._:/-][a-z0-9]+)+$|^https?:|^[/.~]|password|secret|token|test|[(),;\\]"
    r"|^0x[0-9a-f]+$"
)


@dataclass(frozen=True)
class Finding:
    """What stands at `start` to `end` (characters) of a text, and what goes there."""

    start: int
    end: int
    kind: str
    placeholder: str


def find(text: str, kinds: Sequence[str] = USUAL_KINDS) -> list[Finding]:
    """Secrets and personal data in `text`, in order, none over another. Raises UserError for what is none of KINDS."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"{unknown[0]!r} is nothing that can be redacted: choose among {', '.join(KINDS)}")
    found: list[Finding] = []
    if "secrets" in kinds:
        found += _secrets(text)
    if "emails" in kinds and "@" in text:
        found += _emails(text, notices="authors" in kinds)
    if "addresses" in kinds:
        found += [_finding(match, "IP_ADDRESS") for match in _IPV4.finditer(text) if _is_public(match[0], text, match)]
        if "::" in text or text.count(":") > 5:
            found += [_finding(match, "IP_ADDRESS") for match in _IPV6.finditer(text) if _is_public_v6(match[0])]
    return _apart(found)


def redact(text: str, kinds: Sequence[str] = USUAL_KINDS, counts: Counter[str] | None = None) -> str:
    """`text` with a placeholder for each of `find(text, kinds)`; lines stay lines. `counts` is given how many of each
    kind there were."""
    parts, at = [], 0
    for finding in find(text, kinds):
        parts += [text[at : finding.start], finding.placeholder]
        at = finding.end
        if counts is not None:
            counts[finding.kind] += 1
    return "".join([*parts, text[at:]]) if at else text


def _secrets(text: str) -> list[Finding]:
    found = []
    for kind, words, pattern in _formats():
        if any(word in text for word in words):
            for match in pattern.finditer(text):
                group = "value" if pattern.groupindex and match["value"] else 0
                if not (kind == "URL_PASSWORD" and _PASSWORD_WORD.fullmatch(match[group])):
                    found.append(_finding(match, kind, group))
    found += [
        _finding(match, "SECRET", "value")
        for match in _QUOTED.finditer(text)
        if _is_random(match["value"]) and _NAMED.search(text[max(0, match.start() - 80) : match.start()])
    ]
    if "aws" in text or "AWS" in text or "ecret" in text:
        found += [
            _finding(match, "AWS_SECRET_KEY")
            for match in _BASE64_40.finditer(text)
            if _entropy(match[0]) > 4.2 and _AWS_NAMED.search(text[max(0, match.start() - 80) : match.start()])
        ]
    if "PRIVATE KEY" in text:
        for block in _PEM.finditer(text):
            start = block.start("body")
            found += [
                Finding(start + line.start(), start + line.end(), "PRIVATE_KEY", "REDACTED_PRIVATE_KEY")
                for line in _PEM_LINE.finditer(block["body"])
            ]
    lowered = text.lower() if "ibm" in text.lower() or "cloudant" in text.lower() or "softlayer" in text.lower() else ""
    for kind, word, plugin in _detectors() if lowered else ():
        if word in lowered:
            for secret in set(map(str, plugin.analyze_string(text))):
                at = text.find(secret)
                if secret and at >= 0:
                    found.append(Finding(at, at + len(secret), kind, f"REDACTED_{kind}"))
    return found


def _emails(text: str, notices: bool) -> list[Finding]:
    """Addresses of persons; those in notices only where `notices`."""
    found, at = [], text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL_PART.search(text, max(0, at - 65), at) if domain else None
        if local and domain and _is_personal(local[0], domain[0]) and (notices or not _in_notice(text, local.start())):
            found.append(Finding(local.start(), domain.end(), "EMAIL", "REDACTED_EMAIL"))
        at = text.find("@", at + 1)
    return found


def _in_notice(text: str, at: int) -> bool:
    """Whether the line with the place `at`, or one of the few before it in the same paragraph, says whose work this
    is, or whom to write to about it."""
    first = max(0, at - _NOTICE_CHARACTERS)
    lines = text[first : text.find("\n", at) if "\n" in text[at:] else len(text)].split("\n")
    for distance, line in enumerate(reversed(lines)):
        if distance > _NOTICE_LINES or not line.strip(" \t#*/;-"):
            return False
        if _NOTICE.search(line):
            return True
    return False


@cache
def _formats() -> tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]:
    return tuple((kind, tuple(words.split()) or ("",), re.compile(pattern)) for kind, words, pattern in _FORMATS)


@cache
def _detectors() -> tuple[tuple[str, str, Any], ...]:
    """detect-secrets' own detectors of keys that only the names around them tell, by a word that must be there."""
    from detect_secrets.plugins.cloudant import CloudantDetector
    from detect_secrets.plugins.ibm_cloud_iam import IbmCloudIamDetector
    from detect_secrets.plugins.ibm_cos_hmac import IbmCosHmacDetector
    from detect_secrets.plugins.softlayer import SoftlayerDetector

    return (
        ("CLOUDANT_KEY", "cloudant", CloudantDetector()),
        ("IBM_CLOUD_KEY", "ibm", IbmCloudIamDetector()),
        ("IBM_COS_KEY", "ibm", IbmCosHmacDetector()),
        ("SOFTLAYER_KEY", "softlayer", SoftlayerDetector()),
    )


def _finding(match: re.Match[str], kind: str, group: str | int = 0) -> Finding:
    return Finding(match.start(group), match.end(group), kind, f"REDACTED_{kind}")


def _apart(found: list[Finding]) -> list[Finding]:
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda each: (each.start, -each.end)):
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
    return kept


def _is_random(value: str) -> bool:
    """Whether a quoted value may be a key: letters and digits mixed, of high entropy, and no word of documentation."""
    if _NOT_SECRET.search(value) or value.startswith("REDACTED_"):
        return False
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    alike = [any(map(test, value)) for test in (str.isdigit, str.islower, str.isupper)]
    mixed = digits >= 2 or sum([*alike, not value.isalnum()]) >= 3
    return mixed and letters >= 4 and _entropy(value) >= 3.2


def _entropy(value: str) -> float:
    """Bits per character (Shannon) of the value's own frequencies."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _is_personal(local: str, domain: str) -> bool:
    return not _RESERVED_DOMAINS.search(domain) and local.lower() not in _SERVICE_NAMES


def _is_public(address: str, text: str, match: re.Match[str]) -> bool:
    try:
        known = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    if known.is_private or not known.is_global or known.is_multicast or known.is_reserved:
        return False
    # Section numbers and versions look alike: 1.2.3.4, "version 4.3.0.1", "5.2.1.1 of RFC 2822".
    octets = [int(part) for part in address.split(".")]
    return (
        sum(octet > 9 for octet in octets) > 1
        and max(octets) > 30
        and not re.search(
            r"(?i)(?:version|ver|v|rfc|section|§)\W{0,3}$", text[max(0, match.start() - 12) : match.start()]
        )
    )


def _is_public_v6(address: str) -> bool:
    try:
        known = ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return known.is_global and not known.is_multicast and len(address) > 8
