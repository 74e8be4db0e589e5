"""Steps that were compiled, against which the analytic model was fitted and is held by a test.

jax 0.11.1, libtpu 0.0.46.3, CUDA 12 plugin of jax 0.11.1 with cuDNN 9.10; bfloat16, fully sharded over all chips,
November 2026. `python -m tools.benchmarks.compile_steps` compiles them anew and prints this table.
"""

from dataclasses import dataclass

from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.planning.hardware import Hardware, find_hardware
from demiurgic_jax.training.config import TrainConfig


@dataclass(frozen=True)
class CompiledRow:
    """A named size with `rows` sequences a chip and pass, and what one chip then takes."""

    hardware: str
    size: str
    rows: int
    remat: str
    context: int
    grad_accum_steps: int
    peak_bytes: int
    matmul_flops: int
    estimated_cycles: int | None

    def step(self) -> tuple[TrainConfig, ModelConfig, Hardware]:
        """What was compiled."""
        hardware = find_hardware(self.hardware)
        train = TrainConfig(
            steps=1000,
            batch_size=self.rows * hardware.num_chips * self.grad_accum_steps,
            context=self.context,
            grad_accum_steps=self.grad_accum_steps,
            compute_dtype="bfloat16",
            remat=self.remat,
        )
        return train, named_config(self.size), hardware


COMPILED = (
    CompiledRow("v5e-64", "7b", 4, "full", 4096, 1, 9_195_604_480, 814_428_878_536_704, 9_546_749_895),
    CompiledRow("v5p-32", "7b", 4, "full", 4096, 1, 15_378_844_352, 814_428_878_536_704, 4_566_218_346),
    CompiledRow("v5e-64", "7b", 8, "full", 4096, 1, 15_410_053_120, 1_628_857_757_073_408, 19_136_030_042),
    CompiledRow("v6e-64", "7b", 12, "full", 4096, 1, 24_071_948_992, 2_443_286_635_610_112, 9_867_873_367),
    CompiledRow("v5p-32", "7b", 2, "dots", 4096, 1, 31_178_509_504, 324_751_067_185_152, 2_158_280_305),
    CompiledRow("v5e-16", "1b", 4, "full", 4096, 1, 4_037_335_552, 125_344_325_566_464, 1_725_882_755),
    CompiledRow("v5p-128", "70b", 2, "full", 4096, 1, 35_659_242_688, 4_191_029_087_436_800, 22_121_771_282),
    CompiledRow("v5p-32", "13b", 4, "full", 4096, 2, 28_996_296_384, 3_172_692_341_555_200, 16_851_213_847),
    CompiledRow("8xA100-80GB", "7b", 1, "full", 4096, 1, 17_216_799_184, 203_607_219_634_176, None),
    CompiledRow("8xA100-80GB", "7b", 4, "full", 4096, 1, 23_338_041_804, 814_428_878_536_704, None),
    CompiledRow("8xA100-80GB", "7b", 2, "dots", 4096, 1, 39_665_910_200, 324_751_067_185_152, None),
    CompiledRow("8xA100-80GB", "7b", 4, "full", 4096, 2, 27_200_094_684, 1_628_857_757_073_408, None),
    CompiledRow("16xA100-80GB", "34b", 1, "full", 4096, 1, 44_610_159_056, 1_024_040_462_450_688, None),
    CompiledRow("64xH100", "70b", 2, "full", 4096, 1, 38_300_484_032, 4_191_029_087_436_800, None),
    CompiledRow("64xA100-80GB", "70b", 2, "dots", 2048, 1, 79_840_690_628, 1_697_285_176_033_280, None),
    CompiledRow("8xH200", "13b", 4, "full", 8192, 1, 52_426_543_556, 3_172_692_341_555_200, None),
)
