"""What a reader can meet, as types it can tell apart.

ClientError
 ├─ NotYet           try again soon: the daemon is not there, or has not published this yet
 ├─ Busy             the data changed during every attempt to copy it: try again now
 ├─ Incompatible     the daemon speaks another layout than this library
 └─ UnknownSymbol    no such symbol

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
