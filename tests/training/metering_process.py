"""A run as its metrics see it: steps that take 0.05 s. Arguments: folder, step to resume from (-1: none)."""

import sys
import time
from pathlib import Path

from demiurgic_jax.model.config import named_config
from demiurgic_jax.training.meter import Meter
from demiurgic_jax.training.metrics import MetricLog, MetricsConfig

folder, resume_from = Path(sys.argv[1]), int(sys.argv[2])
log = MetricLog(folder, None if resume_from < 0 else resume_from)
meter = Meter(
    MetricsConfig(dollars_per_hour=3600.0),
    named_config("tiny"),
    log.history,
    rows=2,
    row_length=64,
    steps=1000,
    devices=1,
)
for step in meter.waited(range(max(0, resume_from), 1000)):
    time.sleep(0.05)
    log.write(step + 1, meter.measure(step + 1))
