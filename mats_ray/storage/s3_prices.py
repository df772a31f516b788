"""What S3 charges for requests and for bytes that leave a region: a price list as data, and sums over it.

A store of one's own charges otherwise, or nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Prices:
    """Prices in dollars; bytes in 10^9."""

    region: str
    date: str
    put: float
    """One PUT, COPY, POST or LIST."""
    get: float
    """One GET or HEAD."""
    to_region_gb: float
    """Per GB to another region of the same cloud; within the region nothing."""
    to_internet_gb: float
    """Per GB to machines outside the cloud."""


S3_STANDARD = S3Prices(
    region="us-east-1",
    date="2025",
    put=0.005 / 1_000,
    get=0.0004 / 1_000,
    to_region_gb=0.02,
    to_internet_gb=0.09,
)
"""S3 Standard as listed for us-east-1 in 2025, without discounts, not looked up since; to the internet at the
rate of the first 10 TB a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Requests:
    """Number of requests by kind."""

    lists: int = 0
    gets: int = 0
    puts: int = 0
    heads: int = 0

    def dollars(self, prices: S3Prices) -> float:
        """Return their price: LIST and PUT at one rate, GET and HEAD at the other."""
        return (self.lists + self.puts) * prices.put + (self.gets + self.heads) * prices.get
