"""What a reader can meet, as types it can tell apart.

ClientError
 ├─ NotYet           try again soon: the daemon is not there, or has not published this yet
 ├─ Busy             the data changed during every attempt to copy it: try again now
 ├─ Incompatible     the daemon speaks another layout than this library
 ├─ UnknownSymbol    no such symbol
 ├─ OutOfRange       prices that nothing is recorded of
 └─ TooMuch          more cells than one answer may have

The text of each is a sentence for people.
"""


class ClientError(Exception):
    """Any of the faults below."""


class NotYet(ClientError):
    """Nothing has been published, or nobody is there to publish."""


class Busy(ClientError):
    """Every bounded attempt to copy the data was overwritten."""


class Incompatible(ClientError):
    """The shared memory is of another version of liqmap."""


class UnknownSymbol(ClientError):
    """The symbol is not one of this instance's."""


class OutOfRange(ClientError):
    """Nothing is recorded at the prices asked for; recorded is from `low` to `high`."""

    def __init__(self, words: str, low: float, high: float) -> None:
        super().__init__(words)
        self.low, self.high = low, high


class StepTooCoarse(ClientError):
    """No multiple of the step lies in the range asked for; one from `finest` to `coarsest` does."""

    def __init__(self, finest: float, coarsest: float) -> None:
        super().__init__("no price cell of that step lies in the range asked for: a finer step, or more prices")
        self.finest, self.coarsest = finest, coarsest


class TooMuch(ClientError):
    """`cells` were asked for of `what` (rows of the answer, or frames to read), `limit` is the most there may be."""

    def __init__(self, what: str, cells: int, limit: int) -> None:
        super().__init__(f"{cells} cells of {what}, at most {limit}: ask for fewer minutes, prices or a larger stride")
        self.what, self.cells, self.limit = what, cells, limit
