"""CLAP encoders: text and audio in one space."""

from mats_ray.models.clap.convert import ConversionReport, convert_clap
from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.frontend import LogMel, repeat_pad
from mats_ray.models.clap.load import load_clap

__all__ = ["CLAP", "ConversionReport", "LogMel", "convert_clap", "load_clap", "repeat_pad"]
