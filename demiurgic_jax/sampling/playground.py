"""The page at / of the server: one file, nothing fetched from elsewhere, under a policy that allows nothing else."""

import base64
import hashlib
import re
from importlib.resources import files

PAGE = files("demiurgic_jax.sampling").joinpath("playground.html").read_text("utf-8")


def _hashes(tag: str) -> str:
    """Content-Security-Policy sources that allow just the page's own inline elements."""
    digests = (hashlib.sha256(content.encode()).digest() for content in re.findall(rf"(?s)<{tag}>(.*?)</{tag}>", PAGE))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
