from pathlib import Path

import pytest

from demiurgic_jax.interop.imported import ImportedModel, import_model


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> ImportedModel:
    return import_model(smollm2_gguf)
