"""AudioTIA-5M as the paper composes it, and which source of ours stands for each of its files.

Rows are in thousands (paper, Table S8); ratios are the sampling weights of the released configuration: a
batch comes from one file, picked with probability ratio / 1690.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioTIAFile:
    """One file of AudioTIA."""

    file: str
    rows_k: float
    ratio: int
    sources: tuple[str, ...]
    """Our sources for it; its ratio is shared among them."""
    note: str = ""
    """Differences, or why there is no source."""


FILES = (
    AudioTIAFile("emotion_close_gpt4", 16, 70, ("crema_d", "ravdess")),
    AudioTIAFile(
        "vocalsound_tr_gpt4", 16, 20, ("vocalsound",), "its configuration has 7 classes, VocalSound has 6"
    ),
    AudioTIAFile("as_strong_train_cla", 101, 50, ("audioset_strong",)),
    AudioTIAFile("fsd50k_tr_val_gpt4", 77, 50, ("fsd50k",), "one sentence per clip: 41 K"),
    AudioTIAFile("vggsound_tr_gpt4", 97, 50, ("vggsound",), "one sentence per clip: 184 K"),
    AudioTIAFile("dcase17_gpt4", 16, 20, ("dcase2017_task4",), "one sentence per clip: 51 K"),
    AudioTIAFile("esc_gpt4", 22, 20, ("esc50",)),
    AudioTIAFile("urbansound_gpt4", 19, 20, ("urbansound8k",)),
    AudioTIAFile("tut_tr_gpt4", 14, 20, ("tut2017",)),
    AudioTIAFile("SESA_tr_gpt4", 7, 20, ("sesa",)),
    AudioTIAFile(
        "salmonn_audio_caption",
        434,
        200,
        ("wavcaps_audioset", "wavcaps_freesound", "wavcaps_bbc", "wavcaps_soundbible"),
        "its list was not published; mostly WavCaps; AudioCaps and Clotho have parts of their own",
    ),
    AudioTIAFile("Salmonn/audiocaps", 47, 40, ("audiocaps",)),
    AudioTIAFile("Salmonn/clotho", 19, 40, ("clotho",)),
    AudioTIAFile("macs_train_cap", 17.27, 50, ("macs",)),
    AudioTIAFile("clotho_aqa_tr_val_clean_caption", 20, 50, ("clotho_aqa_clean",)),
    AudioTIAFile("beijing_opera_gpt4", 12, 20, ("beijing_opera",)),
    AudioTIAFile("genres_tr_gpt4", 20, 20, ("gtzan",)),
    AudioTIAFile(
        "gama_music_close_gpt4",
        465,
        180,
        (),
        "made by a chat model from an unpublished list; `nsynth` and `musiccaps_aspects` are of its kind",
    ),
    AudioTIAFile("MusicCaps_train", 2.6, 50, ("musiccaps",)),
    AudioTIAFile("captioning_music_close", 26, 50, ("magnatagatune",)),
    AudioTIAFile("SDD_music_caption", 1.11, 50, ("song_describer",)),
    AudioTIAFile("combine_aqa_except_no_a_final", 2547, 300, ("openaqa",)),
    AudioTIAFile(
        "MusicQA", 1207, 300, ("musicqa",), "with LP-MusicCaps captions, ten per clip; 118 K without"
    ),
)


def paper_weights() -> dict[str, float]:
    """Return the paper's sampling weight of each source; where several stand for one file they share it."""
    return {name: one.ratio / len(one.sources) for one in FILES for name in one.sources}
