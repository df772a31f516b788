"""Names under which clips of YouTube videos are stored: their sets publish ids and times, no audio.

Downloaders agree on no name. These are the forms of AudioSet (milliseconds), VGGSound (six digits), DCASE
(three decimals), the common MusicCaps script (brackets) and plain seconds.
"""

_VIDEO_PREFIX = "Y"
"""Of AudioSet's clips, and of AudioCaps' and WavCaps': no name starts with a hyphen then."""


def clip_names(video: str, start: int, end: int) -> tuple[str, ...]:
    """List the names that tell a clip from others of the same video."""
    names = (
        f"{video}_{start:06d}",
        f"{video}_{start}",
        f"{video}_{start}_{end}",
        f"{video}_{start:.3f}_{end:.3f}",
        f"{video}_{start * 1000}",
        f"{video}_{start * 1000}_{end * 1000}",
        f"[{video}]-[{start}-{end}]",
    )
    return (*names, *(f"{_VIDEO_PREFIX}{name}" for name in names[:-1]))


def only_clip_names(video: str, start: int, end: int) -> tuple[str, ...]:
    """List the names of a clip whose video has no other one: the id alone comes first."""
    return (video, f"{_VIDEO_PREFIX}{video}", *clip_names(video, start, end))
