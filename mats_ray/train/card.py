"""The model card: README.md of a model directory."""

from mats_ray.config import RunConfig
from mats_ray.version import __version__


def model_card(config: RunConfig, metrics: dict[str, float]) -> str:
    """Write the card of a finished run: what it is, how it was trained, how to use it."""
    model, train, mapper = config.model, config.train, config.model.mapper
    trained = "LoRA" if model.llm.train == "lora" else "all weights"
    numbers = "\n".join(f"| {key} | {value:.6g} |" for key, value in sorted(metrics.items()))
    return f"""---
library_name: mats_ray
tags: [audio-captioning, audio-question-answering, text-only-training]
---
# {config.name}

An audio language model after MATS (Wang et al., ICML 2025, arXiv 2502.13433), trained on text alone.

| part | value |
|---|---|
| CLAP | `{config.clap_ref}`, {model.clap.dim}-d, frozen |
| language model | `{config.llm_path}`, trained: {trained} |
| mapper | {mapper.num_layers} layers, width {mapper.hidden_dim}, prefix {mapper.prefix_length} |
| noise variance | {model.noise.variance} |
| steps x batch | {train.num_steps} x {train.global_batch_size} |
| seed | {config.seed} |
| mats_ray | {__version__} |

Last training record:

| metric | value |
|---|---|
{numbers}

```python
from mats_ray import MATSPipeline, read_audio

pipe = MATSPipeline.from_pretrained("path/to/this/directory")
print(pipe.caption(read_audio("clip.wav")).text)
```

The base models are referred to, not contained: their licences apply.
"""
