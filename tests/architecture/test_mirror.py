"""Every module has its tests where a reader looks for them.

``mats_ray/train/loop.py`` is tested in ``tests/unit/train/test_loop.py``. A module that only makes sense on a
running cluster, or only together with others, is tested elsewhere; the table names the place.
"""

from tests.architecture.source import PACKAGE, ROOT, listed, name_of

COVERED_ELSEWHERE = {
    "mats_ray/cli/train.py": "tests/integration/test_demo.py",
    "mats_ray/data/embedding/on_ray.py": "tests/integration/test_embedding.py",
    "mats_ray/data/prepare/on_ray.py": "tests/integration/test_prepare.py",
    "mats_ray/data/sources/audiocaps.py": "tests/unit/data/sources/test_caption_sources.py",
    "mats_ray/data/sources/audioset.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/clotho.py": "tests/unit/data/sources/test_caption_sources.py",
    "mats_ray/data/sources/clotho_aqa.py": "tests/unit/data/sources/test_question_sources.py",
    "mats_ray/data/sources/dcase2017.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/esc50.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/fsd50k.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/macs.py": "tests/unit/data/sources/test_caption_sources.py",
    "mats_ray/data/sources/musiccaps.py": "tests/unit/data/sources/test_caption_sources.py",
    "mats_ray/data/sources/musicqa.py": "tests/unit/data/sources/test_question_sources.py",
    "mats_ray/data/sources/file_name_labels.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/nsynth.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/openaqa.py": "tests/unit/data/sources/test_question_sources.py",
    "mats_ray/data/sources/song_describer.py": "tests/unit/data/sources/test_caption_sources.py",
    "mats_ray/data/sources/tut.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/urbansound8k.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/vggsound.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/vocalsound.py": "tests/unit/data/sources/test_label_sources.py",
    "mats_ray/data/sources/wavcaps.py": "tests/unit/data/sources/test_caption_sources.py",
    "mats_ray/data/row_file.py": "tests/unit/data/test_manifest.py",
    "mats_ray/evaluate/answering.py": "tests/integration/test_evaluate.py",
    "mats_ray/data/on_ray.py": "tests/integration/test_embedding.py",
    "mats_ray/data/decoders/libsndfile.py": "tests/unit/data/test_audio.py",
    "mats_ray/data/decoders/limits.py": "tests/unit/data/test_audio.py",
    "mats_ray/caption/on_ray.py": "tests/integration/test_caption.py",
    "mats_ray/infer/answerer.py": "tests/unit/infer/test_pipeline.py",
    "mats_ray/infer/encoder.py": "tests/unit/infer/test_pipeline.py",
    "mats_ray/infer/engine.py": "tests/unit/infer/test_batching.py",
    "mats_ray/infer/engines.py": "tests/unit/serving/test_local.py",
    "mats_ray/rehearsal/run.py": "tests/integration/test_rehearsal.py",
    "mats_ray/serving/http/chat_response.py": "tests/unit/serving/http/test_chat_routes.py",
    "mats_ray/serving/errors.py": "tests/unit/serving/http/test_errors.py",
    "mats_ray/serving/http/chat_request.py": "tests/unit/serving/http/test_chat_routes.py",
    "mats_ray/serving/decoding/child.py": "tests/unit/serving/decoding/test_pool.py",
    "mats_ray/serving/decoding/messages.py": "tests/unit/serving/decoding/test_pool.py",
    "mats_ray/serving/on_ray/metrics.py": "tests/integration/test_serving.py",
    "mats_ray/serving/types.py": "tests/unit/serving/test_service.py",
    "mats_ray/serving/http/status_routes.py": "tests/unit/serving/http/test_app.py",
    "mats_ray/serving/http/schemas.py": "tests/unit/serving/http/test_app.py",
    "mats_ray/serving/http/tracing.py": "tests/unit/serving/test_tracing.py",
    "mats_ray/toy/demo/run.py": "tests/integration/test_demo.py",
    "mats_ray/train/on_ray.py": "tests/integration/test_training.py",
}
ONE_TABLE_OF_TESTS = {
    "mats_ray/evaluate/benchmarks": "tests/unit/evaluate/benchmarks/test_benchmarks.py",
}
"""Folders whose every file has a row in one table of tests."""
MODULES = [name_of(path) for path in PACKAGE if path.stem not in {"__init__", "__main__"}]


def mirror_of(module: str) -> str:
    if table := ONE_TABLE_OF_TESTS.get(module.rpartition("/")[0]):
        return table
    folder, _, name = module.removeprefix("mats_ray/").rpartition("/")
    return "/".join(filter(None, ["tests/unit", folder, f"test_{name}"]))


def test_every_module_has_its_tests():
    homes = {module: COVERED_ELSEWHERE.get(module, mirror_of(module)) for module in MODULES}

    missing = [f"{module} needs {home}" for module, home in homes.items() if not (ROOT / home).is_file()]
    assert not missing, listed(missing)


def test_the_table_lists_only_modules_that_exist():
    assert [module for module in COVERED_ELSEWHERE if module not in MODULES] == []


def test_the_table_lists_only_modules_without_a_mirror():
    assert [module for module in COVERED_ELSEWHERE if (ROOT / mirror_of(module)).exists()] == []
