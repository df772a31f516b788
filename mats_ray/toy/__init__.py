"""The offline world: sounds, captions, a tiny CLAP and LLaMA, and the demo that runs the whole loop."""
