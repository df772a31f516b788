"""Resources that a job needs, against those of the cluster."""

import logging

import ray

logger = logging.getLogger(__name__)


def warn_if_too_few(what: str, resource: str, needed: float, *, terms: str) -> None:
    """Log why a job waits, if it will: Ray waits silently for resources that never come.

    Not an error, as a cluster may grow.

    Args:
        what: The work.
        resource: ``CPU`` or ``GPU``.
        needed: Number that all its processes take together.
        terms: How it is made up, by names of the configuration.
    """
    available = ray.cluster_resources().get(resource, 0)
    if needed > available:
        logger.warning(
            "%s needs %g %ss (%s), the cluster has %g; it waits until there are more",
            *(what, needed, resource, terms, available),
        )
