"""The stages of the main job, in order."""

from experiments.stages.corpus import CORPUS
from experiments.stages.evaluate import EVALUATE
from experiments.stages.report import REPORT
from experiments.stages.seeds import SEEDS
from experiments.stages.shards import SHARDS
from experiments.stages.stage import Stage
from experiments.stages.teach import TEACH
from experiments.stages.tokenizer import TOKENIZER
from experiments.stages.train import TRAIN
from experiments.stages.verify import VERIFY

STAGES: tuple[Stage, ...] = (SEEDS, TEACH, VERIFY, CORPUS, TOKENIZER, SHARDS, TRAIN, EVALUATE, REPORT)
