"""The training context without a framework."""

from mats_ray.train.context import LocalContext


def test_records_samples_stages_and_checkpoints_stay_where_they_are(tmp_path):
    context = LocalContext()
    context.enter("waiting for data", 1)
    context.log({"step": 1, "loss": 2.0})
    context.log({"step": 2, "loss": 1.0}, [{"id": "a"}])
    context.keep(tmp_path, 2)

    assert (context.rank, context.num_workers) == (0, 1)
    assert context.stages == [("waiting for data", 1)]
    assert context.records == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert context.samples == [{"id": "a"}]
    assert context.checkpoints == [tmp_path]


def test_two_contexts_share_nothing():
    LocalContext().log({"step": 1})

    assert LocalContext().records == []
