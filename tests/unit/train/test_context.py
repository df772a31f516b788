"""The training context without a framework."""

from mats_ray.train.context import LocalContext


def test_records_and_checkpoints_stay_where_they_are(tmp_path):
    context = LocalContext()
    context.log({"step": 1, "loss": 2.0})
    context.report({"step": 1}, None)
    context.report({"step": 2}, tmp_path)

    assert (context.rank, context.num_workers) == (0, 1)
    assert context.records == [{"step": 1, "loss": 2.0}]
    assert context.checkpoints == [tmp_path]


def test_two_contexts_share_nothing():
    LocalContext().log({"step": 1})

    assert LocalContext().records == []
