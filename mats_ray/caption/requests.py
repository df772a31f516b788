"""What a batch job is to answer: files with their prompts, block by block.

They come from a folder, a bucket, a manifest or a list; nothing is held but the block at hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import pyarrow as pa

from mats_ray.caption.prompts import PromptPlan, PromptRules
from mats_ray.caption.rows import Prompt
from mats_ray.data.audio_files import AudioObject
from mats_ray.data.audio_listing import AudioListing, format_left_out, to_block
from mats_ray.data.manifest import ManifestRow, is_manifest, read_manifest
from mats_ray.errors import ConfigError, DataError
from mats_ray.storage import is_s3
from mats_ray.storage.s3_shards import Submit


@dataclass(frozen=True, kw_only=True, eq=False)
class RequestBlock:
    """Some files and their prompts."""

    files: pa.Table
    """``s3_pages.SCHEMA``, each path once."""
    plan: PromptPlan
    manifest: Mapping[str, Sequence[ManifestRow]] = field(default_factory=dict[str, Sequence[ManifestRow]])
    """Rows of the manifest by path; empty where the audio is no manifest."""
    repeated: Set[str] = frozenset()
    """Those of its paths that an earlier block had, too, with other prompts."""


class RequestSource:
    """The files of a job.

    Args:
        audio: Folder, file, prefix, manifest, or listed files.
        rules: Of the prompts.
        questions: Questions by path; others are in the rules.
        prefixes, resume_after: As for ``AudioListing``.

    Raises:
        ConfigError: Prefixes are given, and the audio is no bucket.
        DataError: Questions are given for a path that is not among listed files.
    """

    def __init__(
        self,
        audio: str | Sequence[AudioObject],
        rules: PromptRules,
        *,
        questions: Mapping[str, Sequence[str]] | None = None,
        prefixes: Sequence[str] = (),
        resume_after: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._audio, self._rules, self._questions = audio, rules, questions or {}
        self._listing: AudioListing | None = None
        if prefixes and (not isinstance(audio, str) or not is_s3(audio) or is_manifest(audio)):
            what = audio if isinstance(audio, str) else f"a list of {len(audio)} files"
            raise ConfigError(f"caption.prefixes are of a bucket's keys (s3://bucket/...), and not of {what}")
        if not isinstance(audio, str):
            self._check({one.path for one in audio})
        elif not is_manifest(audio):
            self._listing = AudioListing(audio, prefixes=prefixes, resume_after=resume_after)

    @property
    def left_out(self) -> str:
        """Files that are no audio, counted by extension."""
        return format_left_out(self._listing.left_out) if self._listing else ""

    def run_on(self, submit: Submit) -> None:
        """List a bucket elsewhere from now on."""
        if self._listing is not None:
            self._listing.run_on(submit)

    def blocks(self) -> Iterator[RequestBlock]:
        """Yield the requests.

        Raises:
            DataError: No audio is there, it cannot be listed, or the manifest cannot be read.
            ConfigError: A question is empty.
        """
        known = set[str]()
        for block in self._blocks():
            if self._questions:
                known.update(self._questions.keys() & set(block.files["path"].to_pylist()))
            yield block
        self._check(known)

    def _blocks(self) -> Iterator[RequestBlock]:
        if not isinstance(self._audio, str):
            for block in _listed(self._audio):
                yield self._request(block)
        elif self._listing is not None:
            for block in self._listing.blocks():
                yield self._request(block)
        else:
            for block in read_manifest(self._audio):
                questions = {path: [row.question for row in rows] for path, rows in block.rows.items()}
                request = self._request(block.files, questions, manifest=block.rows, repeated=block.repeated)
                if len(request.files):
                    yield request

    def _request(
        self,
        files: pa.Table,
        questions: Mapping[str, Sequence[str]] | None = None,
        *,
        manifest: Mapping[str, Sequence[ManifestRow]] | None = None,
        repeated: Set[str] = frozenset(),
    ) -> RequestBlock:
        questions = questions or {}
        if not questions and not self._questions:
            plan = PromptPlan.uniform(self._rules.of_file(), len(files))
            return RequestBlock(files=files, plan=plan, manifest=manifest or {}, repeated=repeated)
        prompts_F = [
            self._prompts(path, questions.get(path, ()), again=path in repeated)
            for path in files["path"].to_pylist()
        ]
        has_any = pa.array([bool(prompts) for prompts in prompts_F])
        files, plan = files.filter(has_any), PromptPlan.of([prompts for prompts in prompts_F if prompts])
        repeated = repeated & set(files["path"].to_pylist())
        return RequestBlock(files=files, plan=plan, manifest=manifest or {}, repeated=repeated)

    def _prompts(self, path: str, questions: Sequence[str], *, again: bool) -> list[Prompt]:
        """List the prompts of a file; where an earlier block had it, too, those that this one adds."""
        given = self._questions.get(path, ())
        if not again:
            return self._rules.of_file([*questions, *given])
        planned = self._rules.of_file(given, again=True) if given else ()
        return [one for one in self._rules.of_file(questions, again=True) if one not in planned]

    def _check(self, known: Set[str]) -> None:
        if unknown := sorted(self._questions.keys() - known):
            raise DataError(
                f"{len(unknown)} paths with questions are not among the audio: first {unknown[0]}"
            )


def _listed(files: Sequence[AudioObject]) -> Iterator[pa.Table]:
    """Yield listed files as one block, each path once: whoever listed them holds them anyway."""
    if by_path := {one.path: one for one in files}:
        yield to_block([by_path[path] for path in sorted(by_path)])
