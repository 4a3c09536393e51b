"""The memo: prepared answers of one process, bounded in number and bytes, oldest use first out.

Keys are (parsed parameters, version of the data): a new frame has a new key, and the old answer ages out.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from liqmap.api.encode import Prepared, PreparedBytes

MAX_ANSWERS: Final = 256
MAX_BYTES: Final = 32 * 1024 * 1024


class Memo:
    """Thread-safe; what it hands out is never changed by anyone."""

    def __init__(self, max_answers: int = MAX_ANSWERS, max_bytes: int = MAX_BYTES) -> None:
        self._max_answers, self._max_bytes = max_answers, max_bytes
        self._answers: OrderedDict[Hashable, Prepared | PreparedBytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Prepared | PreparedBytes | None:
        """The answer kept under `key`."""
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            return answer

    def put(self, key: Hashable, answer: Prepared | PreparedBytes) -> None:
        """Keep `answer`; an answer larger than the memo is not kept."""
        with self._lock:
            replaced = self._answers.pop(key, None)
            self._bytes += len(answer.body) - (len(replaced.body) if replaced else 0)
            self._answers[key] = answer
            while self._answers and (self._bytes > self._max_bytes or len(self._answers) > self._max_answers):
                _, dropped = self._answers.popitem(last=False)
                self._bytes -= len(dropped.body)

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def bytes(self) -> int:
        """Bytes of JSON kept."""
        return self._bytes
