"""The summary: two lines on the terminal, all of it as a file."""

from mats_ray.caption.summary import CaptionSummary, skipped_line

SUMMARY = CaptionSummary(
    files=5,
    rows=10,
    ok=7,
    errors={"empty": 2, "too_long": 1},
    written=8,
    seconds=4.0,
    out="s3://b/out",
    model_id="m@1",
    skipped="3 .txt",
    stage_seconds={"decode": 1.5},
)


def test_the_terminal_has_counts_errors_and_where_the_rows_are():
    assert str(SUMMARY).splitlines() == [
        "5 files, 10 rows: 7 ok, errors: 2 empty, 1 too_long",
        "left out, no audio: 3 .txt",
        "8 rows written in 4.0 s: s3://b/out (model m@1)",
    ]
    assert skipped_line("") == ""


def test_the_file_has_rates_stages_versions_and_examples_of_every_error():
    tree = SUMMARY.as_dict({"empty": [("a.wav", "a.wav is empty")]})

    assert (tree["rows_per_second"], tree["stage_seconds"]) == (2.0, {"decode": 1.5})
    assert tree["errors"] == {
        "empty": {"count": 2, "examples": [{"path": "a.wav", "error": "a.wav is empty"}]},
        "too_long": {"count": 1, "examples": []},
    }
    assert set(tree["versions"]) >= {"mats-ray", "ray", "torch"}
    assert (tree["files"], tree["rows"], tree["ok"], tree["written"]) == (5, 10, 7, 8)
    assert tree["finished"].endswith("Z")
