"""A toy configuration that trains in seconds: its models generate nonsense, every real part is in it."""

from pathlib import Path

from mats_ray.config import RunConfig

TINY = {
    "clap_takes": 2,
    "clap_steps": 2,
    "clap_batch_size": 8,
    "num_texts": 40,
    "llm_dim": 32,
    "llm_layers": 1,
    "llm_steps": 2,
    "llm_batch_size": 4,
    "num_test_clips": 4,
    "num_audio_train_clips": 8,
}


def tiny_config(output_dir: Path, **changes) -> RunConfig:
    """Return a two-worker DeepSpeed run of 60 steps over 40 texts."""
    base = RunConfig.model_validate(
        {
            "name": "tiny",
            "output_dir": str(output_dir),
            "model": {
                "clap": {"dim": 16},
                "mapper": {
                    "hidden_dim": 32,
                    "num_layers": 1,
                    "num_heads": 2,
                    "prefix_length": 3,
                    "content_length": 2,
                },
                "llm": {"lora": {"rank": 2, "dropout": 0.1}},
            },
            "memory": {"num_rows": 40, "num_clusters": 4},
            "data": {"embed": {"num_partitions": 2}, "chunk_rows": 32},
            "train": {
                "num_steps": 60,
                "global_batch_size": 12,
                "micro_batch_size": 2,
                "log_every": 1,
                "optim": {"lr": 1e-3},
                "schedule": {"warmup_steps": 2},
                "checkpoint": {"every_steps": 10, "keep": 6},
            },
            "scaling": {"num_workers": 2, "cpus_per_worker": 0.5},
            "generation": {"profile": "fast", "max_new_tokens": 8},
            "toy": TINY,
        }
    )
    return base.replace(**changes) if changes else base
