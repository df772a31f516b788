"""Checks of everything a run needs, on the driver, before workers start."""

import logging
from collections.abc import Callable
from dataclasses import replace

from mats_ray.config import RunConfig
from mats_ray.config.model import AUTO
from mats_ray.data.bridge_state import check_state
from mats_ray.data.embedded import EmbeddedTriplets, check_rows, format_rows, inspect, rows_by_source
from mats_ray.data.embedding.noise_variance import VarianceEstimate, training_variance
from mats_ray.data.mixture import check_layout, mixture_of
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.clap.load import local_hash
from mats_ray.storage import exists
from mats_ray.train.checkpoints import open_store
from mats_ray.train.export import check_model_dir
from mats_ray.train.init_from import check_init_from
from mats_ray.train.optim import learning_rate
from mats_ray.train.run_state import (
    NOISE_VARIANCE,
    UNKNOWN_INPUTS,
    RunInputs,
    RunState,
    check_same_run,
    num_steps_changes,
    run_inputs,
)
from mats_ray.train.tracking import check_trackers

logger = logging.getLogger(__name__)


def check_inputs(config: RunConfig) -> EmbeddedTriplets:
    """Check all inputs of a run and return a description of the training data.

    Raises:
        ConfigError: The state of the bridge has not been built, a tracker is not installed, or the mixture's
            weights and the data's sources differ.
        DataError: Training or validation data is missing, empty or of another CLAP; or the memory is.
        ModelError: ``train.init_from`` is no model directory.
        TrainingError: The run's checkpoints, or the model of ``train.init_from``, do not fit.
    """
    if config.bridge != "none" and not exists(config.memory_path):
        what = "Santa memory" if config.bridge == "santa" else f"state of the bridge {config.bridge!r}"
        raise ConfigError(
            f"no {what} at {config.memory_path}; run `mats memory` first or set model.bridge=none"
        )
    check_trackers(config)
    data = inspect(config.embedded_path, splits=config.data.splits)
    _warn_of_unused_rows(data, config)
    check_rows(data, where=config.embedded_path)
    _check_mixture(config, data)
    if data.identity.dim != config.model.clap.dim:
        raise DataError(
            f"{config.embedded_path} holds {data.identity.dim}-d embeddings, model.clap.dim is "
            f"{config.model.clap.dim}"
        )
    found = local_hash(config.clap_ref)
    if found is not None and found != data.identity.checkpoint_hash:
        raise DataError(
            f"{config.embedded_path} was embedded with {data.identity}, the CLAP at {config.clap_ref} "
            f"is {found}; run `mats embed` again, or name the CLAP it was made with"
        )
    if config.bridge != "none":
        check_state(config, data.identity)
    if config.train.validation.data is not None:
        inspect(config.train.validation.data, expected=data.identity)
    check_checkpoints(config, run_inputs(data, init_from=check_init_from(config, data.identity)))
    data = replace(data, sources=rows_by_source(config.embedded_path, splits=config.data.splits))
    logger.info("training on %s of %s", format_rows(data.sources), config.embedded_path)
    return data


def with_noise_variance(
    config: RunConfig, estimate: Callable[[RunConfig], VarianceEstimate] = training_variance
) -> RunConfig:
    """Replace a noise variance of ``auto`` by the run's own number if it has begun, else by an estimate.

    Args:
        config: Configuration of the run.
        estimate: Loads the CLAP, so a driver has it run elsewhere.

    Raises:
        DataError: No clip of the embedded triplets has two captions.
        ModelError: The CLAP cannot be loaded.
    """
    if config.model.noise.variance != AUTO:
        return config
    store = open_store(config)
    begun = [store.state(newest).config for newest in store.committed()[-1:]]
    if begun and NOISE_VARIANCE in begun[0]:
        variance = begun[0][NOISE_VARIANCE]
    else:
        found = estimate(config)
        variance = found.value
        counts = (found.num_clips, found.num_pairs)
        logger.info("noise variance by %d clips, %d pairs of captions: %g", *counts, variance)
    return config.replace(model={"noise": {"variance": variance}})


def _warn_of_unused_rows(data: EmbeddedTriplets, config: RunConfig) -> None:
    if data.left_out:
        by_split = ", ".join(f"{count} of {split!r}" for split, count in sorted(data.left_out.items()))
        logger.warning(
            "%s: training leaves out rows of splits other than data.splits=%s: %s; %d rows remain",
            config.embedded_path,
            list(config.data.splits),
            by_split,
            data.num_rows,
        )


def _check_mixture(config: RunConfig, data: EmbeddedTriplets) -> None:
    mixture = config.data.mixture
    check_layout(data.groups, by=mixture.by, where=config.embedded_path)
    if mixture.by == "source":
        _, mixed = mixture_of(mixture, data.groups, seed=config.seed, where=config.embedded_path)
        shares = (f"{count / len(mixed.cycle):.4g} {source}" for source, count in mixed.copies.items())
        logger.info("shares of the batches: %s", ", ".join(shares))


def _log_num_steps(run: RunState, config: RunConfig) -> None:
    """Log a change of ``train.num_steps`` with the learning rates before and after it."""
    train = config.train
    for change in num_steps_changes(run, config)[len(run.num_steps_changes) :]:
        before, after = (
            learning_rate(step, lr=train.optim.lr, num_steps=num_steps, schedule=train.schedule)
            for step, num_steps in ((run.step - 1, change["was"]), (run.step, change["now"]))
        )
        logger.info(
            "train.num_steps was %d, is %d: the run goes on after step %d on the %s schedule of %d steps; "
            "the learning rate was %.3g in step %d, is %.3g in step %d",
            *(change["was"], change["now"], run.step, train.schedule.type, change["now"]),
            *(before, run.step, after, run.step + 1),
        )


def check_checkpoints(config: RunConfig, inputs: RunInputs = UNKNOWN_INPUTS) -> None:
    """Refuse to resume from checkpoints of another configuration, or of other inputs where they are known.

    Raises:
        TrainingError: Names what differs; or the model directory holds the model of another run.
    """
    check_model_dir(config)
    store = open_store(config)
    for newest in store.committed()[-1:]:
        run = store.state(newest)
        check_same_run(run, config, inputs)
        if inputs is not UNKNOWN_INPUTS:
            _log_num_steps(run, config)
