"""The toy's questions put to any model directory that was trained with the toy's CLAP.

    mats train --config configs/smollm2_135m.yaml
    python benchmarks/toy_questions.py --config configs/smollm2_135m.yaml --clips 60

Held-out clips are rendered as in `mats demo`; every system answers the same questions about them.
"""

import argparse
import tempfile
import time
from pathlib import Path

from mats_ray.config import load_config
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.toy.demo import systems
from mats_ray.toy.demo.testset import samples_of, shares_right, write_test_set
from mats_ray.toy.report.results import MEASURES, SYSTEMS
from mats_ray.toy.world import split_of, text_triplets


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--systems", nargs="+", default=["text_noise_santa", "text_noise", "text_embedding"])
    args = parser.parse_args()
    config = load_config(args.config, [*args.overrides, f"toy.num_test_clips={args.clips}"])
    model = Path(config.model_dir)
    with tempfile.TemporaryDirectory() as scratch:
        clips = write_test_set(config, Path(scratch))
        encoder = AudioEncoder.from_pretrained(str(model))
        audio_NC = systems.encode_clips(encoder, clips)
        embeddings = {
            "text_noise_santa": lambda: systems.apply_santa(model, audio_NC),
            "text_noise": lambda: audio_NC,
            "text_embedding": lambda: systems.encode_descriptions(encoder.clap, clips),
        }
        samples, answerer = samples_of(clips), Answerer.from_pretrained(model)
        floor = systems.majority_answers(samples, text_triplets(config, split_of(config)))
        scores = {"floor": shares_right(samples, floor)}
        for name in args.systems:
            started = time.monotonic()
            texts = systems.answer_samples(answerer, embeddings[name](), clips, samples, name=name)
            scores[name] = shares_right(samples, texts)
            print(f"{name}: {scores[name]} in {time.monotonic() - started:.0f} s", flush=True)
    print(f"| system, {len(clips)} held-out clips | " + " | ".join(MEASURES.values()) + " |")
    print("|---" * (1 + len(MEASURES)) + "|")
    for name in [*args.systems, "floor"]:
        found = " | ".join(f"{scores[name][key]:.3f}" for key in MEASURES)
        print(f"| {SYSTEMS[name]} | {found} |")


if __name__ == "__main__":
    main()
