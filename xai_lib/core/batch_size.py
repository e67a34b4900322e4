"""How many inputs a model is sent at once."""

from typing import Literal

from xai_lib.core.arguments import check_count


class BatchSize:
    """The number of inputs to send next: fixed, or found by timing the real work.

    Candidates grow fourfold. The first full batch of each warms up; the search ends at
    the first one that is no faster per input in TRIALS batches. One would not do: on a
    busy machine a single batch can take many times as long as the next one, and ending
    at size 4 makes small models some fifty times slower.
    """

    CANDIDATES = (4, 16, 64, 256, 1024)
    TRIALS = 4

    def __init__(self, batch_size: int | Literal["auto"]) -> None:
        self.automatic = batch_size == "auto"
        self.best = 4 if self.automatic else check_count("batch_size", batch_size)
        self.restart()

    def restart(self) -> None:
        """Search again, for another backend."""
        self.candidates = list(self.CANDIDATES) if self.automatic else []
        self.seconds_per_input = float("inf")
        self._batches = 0  # of the candidate being timed

    def next(self, available: int) -> int:
        """How many of the `available` inputs to send; at most all of them."""
        if self.candidates and self.candidates[0] <= available:
            return self.candidates[0]
        return min(self.best, available)

    def timed(self, size: int, seconds: float) -> None:
        """Learn from a batch that took `seconds`."""
        if not self.candidates or size != self.candidates[0]:
            return
        self._batches += 1
        if self._batches == 1:
            return
        if seconds / size < self.seconds_per_input:
            self.best = self.candidates.pop(0)
            self.seconds_per_input = seconds / size
            self._batches = 0
        elif self._batches > self.TRIALS:
            self.candidates = []

    def halve(self, size: int) -> None:
        """Learn that `size` inputs do not fit in memory."""
        self.candidates = []
        self.best = max(1, size // 2)

    def __str__(self) -> str:
        return f"auto ({self.best} so far)" if self.candidates else str(self.best)
