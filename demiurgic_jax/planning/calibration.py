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
    CompiledRow("v5e-64", "7b", 4, "full", 4096, 1, 9_303_699_968, 809_274_917_781_504, 8_383_046_226),
    CompiledRow("v5p-32", "7b", 4, "full", 4096, 1, 14_042_359_488, 809_274_917_781_504, 4_334_155_651),
    CompiledRow("v5e-64", "7b", 8, "full", 4096, 1, 15_951_012_352, 1_618_549_835_563_008, 16_406_744_326),
    CompiledRow("v6e-64", "7b", 12, "full", 4096, 1, 24_068_661_952, 2_427_824_753_344_512, 7_115_344_474),
    CompiledRow("v5p-32", "7b", 2, "dots", 4096, 1, 32_154_760_896, 324_751_067_185_152, 1_984_146_711),
    CompiledRow("v5e-16", "1b", 4, "full", 4096, 1, 4_182_657_536, 123_901_216_555_008, 1_578_348_817),
    CompiledRow("v5p-128", "70b", 2, "full", 4096, 1, 32_328_344_768, 4_180_858_604_879_872, 20_065_978_168),
    CompiledRow("v5p-32", "13b", 4, "full", 4096, 2, 28_208_962_752, 3_156_543_264_522_240, 16_191_924_270),
    CompiledRow("v5e-16", "1b", 2, "dots", 4096, 32, 10_281_785_344, 1_636_073_302_130_688, 20_690_897_615),
    CompiledRow("v5p-8", "1b", 8, "dots", 4096, 32, 40_328_661_184, 6_544_293_208_522_752, 47_480_303_443),
    CompiledRow("8xA100-80GB", "7b", 1, "full", 4096, 1, 16_093_217_196, 203_607_219_634_176, None),
    CompiledRow("8xA100-80GB", "7b", 4, "full", 4096, 1, 21_759_639_980, 814_428_878_536_704, None),
    CompiledRow("8xA100-80GB", "7b", 2, "dots", 4096, 1, 36_898_603_436, 324_751_067_185_152, None),
    CompiledRow("8xA100-80GB", "7b", 4, "full", 4096, 2, 26_120_028_628, 1_628_857_757_073_408, None),
    CompiledRow("16xA100-80GB", "34b", 1, "full", 4096, 1, 40_374_370_732, 1_024_040_462_450_688, None),
    CompiledRow("64xH100", "70b", 2, "full", 4096, 1, 33_883_095_476, 4_191_029_087_436_800, None),
    CompiledRow("64xA100-80GB", "70b", 2, "dots", 2048, 1, 74_706_076_076, 1_699_432_659_681_280, None),
    CompiledRow("8xH200", "13b", 4, "full", 8192, 1, 48_905_269_680, 3_172_692_341_555_200, None),
)
