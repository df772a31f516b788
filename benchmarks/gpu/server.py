"""The service in one process under uvicorn, without Ray: app, encoder and answerer of a colocated replica."""

import argparse

import uvicorn

from mats_ray.serving.decoding.pool import DecoderPool
from mats_ray.serving.foreground import load_serve_config
from mats_ray.serving.http.app import make_app
from mats_ray.serving.local import LocalModel
from mats_ray.serving.service import AudioService


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    config = load_serve_config([], args.settings, model=args.model)
    model = LocalModel(config)
    decoder = DecoderPool(
        config.decode_processes,
        max_seconds=config.max_audio_seconds,
        timeout_seconds=config.decode_timeout_seconds,
        memory_bytes=config.decode_memory_bytes,
    )
    service = AudioService(model.encoder, model.answerer, decoder=decoder, limits=config)
    uvicorn.run(make_app(service, config), host="127.0.0.1", port=args.port, log_level="error")


if __name__ == "__main__":
    main()
