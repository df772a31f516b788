"""Evaluation on published benchmarks: answers by the batch job, a log of samples, scores, a report.

    annotations + audio -> samples -> [batch job: answers] -> samples.parquet -> scores.json -> report.html

Every score is a function of the log of samples, so it can be computed again without the model.
``benchmark`` says what a benchmark is, ``benchmarks`` holds one file for each, ``metrics`` the scorers.
"""
