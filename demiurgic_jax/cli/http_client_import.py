"""httpx, imported without what this command never uses: that is two thirds of the time that it takes."""

import sys

# Asynchronous clients, HTTP/2, and httpx's own command line, which loads rich. httpx and httpcore go on without them,
# as where they are not installed.
_UNUSED = ("anyio", "trio", "h2", "httpx._main")


def import_http_client() -> None:
    """Imports httpx and httpcore, unless somebody has; afterwards the modules left out can be imported as ever."""
    if "httpx" in sys.modules:
        return
    hidden = [name for name in _UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import httpcore  # noqa: F401
        import httpx  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
