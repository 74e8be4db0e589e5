"""Where downloads and compiled programs are kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$DEMIURGIC_CACHE, or ~/.cache/demiurgic."""
    return Path(os.environ.get("DEMIURGIC_CACHE") or Path.home() / ".cache" / "demiurgic")


def prepare_jax() -> None:
    """Keeps compiled programs between processes: a run that is killed and repeated compiles once."""
    import jax  # here, because who asks for the folder alone should not wait for it

    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
