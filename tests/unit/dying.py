"""A process of shared memory that dies between two of its stores, without a process having to die."""


class Killed(BaseException):
    """It died here."""


class WordsUntilDeath:
    """The words it stores to; it "dies" before its store number `stores`."""

    def __init__(self, words: "memoryview[int]", stores: int) -> None:
        self._words = words
        self._left = stores

    def __getitem__(self, at: int) -> int:
        return self._words[at]

    def __setitem__(self, at: int, number: int) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1
        self._words[at] = number
