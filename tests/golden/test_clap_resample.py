"""The sinc resampler gives torchaudio's numbers."""

import numpy as np
import pytest

from mats_ray.models.clap.resample import resample
from tests.golden.clap_checkpoints import assert_near, wave
from tests.golden.recipe import golden_files


@pytest.mark.parametrize("file", golden_files("resample"))
def test_sinc_resampling(file):
    golden = np.load(file)
    for name in golden.files:
        if name.startswith("out_"):
            from_rate, to_rate = (int(rate) for rate in name.split("_")[1:])
            out = resample(wave(golden[f"in_{from_rate}"]), from_rate, to_rate, "sinc")
            assert_near(out, golden[name], 2e-5, f"resample {from_rate} -> {to_rate}")
