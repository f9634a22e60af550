"""What a person in a chat does: sessions of several turns, messages of uneven length, pauses to read and think.

Distributions (medians and means are settings): turns per session geometric; characters per message log-normal with
sigma 0.8, cut to 1..4000; think time log-normal with sigma 0.6, cut at ten times its median.
"""

import itertools
import math
import random

__all__ = ["ChatTraffic"]

_WORDS = (
    "the deploy of service failed again after login please show me what changed in last build and how to roll back "
    "can you explain why redis latency grows when workers restart list all open tickets about session timeouts write "
    "summary for team compare both plans which one is cheaper thanks that helps one more question about report"
).split()


class ChatTraffic:
    """The conversation of one user; equal `seed` and `ordinal` give an equal conversation.

    `think_median_s`: seconds; `message_median`: characters; `turns_mean`: messages per session, at least 1;
    `session_prefix` begins the names of the sessions; no other user may have it.
    """

    def __init__(
        self,
        seed: int,
        ordinal: int,
        *,
        think_median_s: float,
        message_median: float,
        turns_mean: float,
        session_prefix: str,
    ) -> None:
        self._random = random.Random(f"{seed}/{ordinal}")
        self._think_median_s = think_median_s
        self._message_median = message_median
        self._turns_mean = turns_mean
        self._sessions = (f"{session_prefix}-{number}" for number in itertools.count(1))
        self._turns_left = 0
        self._session_id = ""

    def next_turn(self) -> tuple[str, str]:
        """Return (session id, message) of the next turn; a finished session is followed by a new one."""
        if self._turns_left == 0:
            self._session_id = next(self._sessions)
            self._turns_left = self._turns()
        self._turns_left -= 1
        return self._session_id, self._message()

    def think_time_s(self) -> float:
        """Draw the pause before the next turn, in seconds."""
        if self._think_median_s <= 0:
            return 0.0
        return min(self._random.lognormvariate(math.log(self._think_median_s), 0.6), 10 * self._think_median_s)

    def _turns(self) -> int:
        if self._turns_mean <= 1:
            return 1
        uniform = 1.0 - self._random.random()
        return 1 + int(math.log(uniform) / math.log(1 - 1 / self._turns_mean))

    def _message(self) -> str:
        length = int(self._random.lognormvariate(math.log(self._message_median), 0.8))
        length = min(max(length, 1), 4000)
        words = self._random.choices(_WORDS, k=length // 4 + 1)
        return " ".join(words)[:length].ljust(length, ".")
