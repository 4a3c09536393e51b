"""How long to wait before a dead child is started again, and when to give up on it. Pure arithmetic."""

from dataclasses import dataclass

from liqmap.config import EXIT_CONFIG, SupervisorConfig

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The patience of the supervisor with one child; times in ns."""

    stop_ns: int
    abort_ns: int
    backoff_first_ns: int
    backoff_ceiling_ns: int
    fatal_deaths: int
    fatal_window_ns: int


def limits_of(config: SupervisorConfig) -> Limits:
    """The limits that the configuration asks for."""
    return Limits(
        stop_ns=int(config.stop_timeout_s * _NS),
        abort_ns=int(config.abort_grace_s * _NS),
        backoff_first_ns=int(config.backoff_first_s * _NS),
        backoff_ceiling_ns=int(config.backoff_ceiling_s * _NS),
        fatal_deaths=config.fatal_deaths,
        fatal_window_ns=int(config.fatal_window_s * _NS),
    )


def recent(deaths: tuple[int, ...], now_ns: int, limits: Limits) -> tuple[int, ...]:
    """The deaths (times in ns) that still count at `now_ns`; never more than are needed for a verdict."""
    return tuple(at for at in deaths if now_ns - at < limits.fatal_window_ns)[-limits.fatal_deaths :]


def backoff_ns(deaths: int, chance: float, limits: Limits) -> int:
    """The wait after the n-th recent death: doubles up to the ceiling, half of it fixed and half by `chance` (0 to 1).

    The jitter keeps children that died of one cause from coming back at one moment.
    """
    doublings = min(max(deaths - 1, 0), 40)
    full = min(limits.backoff_first_ns << doublings, limits.backoff_ceiling_ns)
    return int(full * (0.5 + chance / 2))


def hopeless(exit_code: int | None, deaths: int, limits: Limits) -> str:
    """Why starting again is no use; an empty string while it is."""
    if exit_code == EXIT_CONFIG:
        return "its configuration is wrong (exit 78), see its log"
    if deaths >= limits.fatal_deaths:
        return f"died {deaths} times within {limits.fatal_window_ns // _NS} s"
    return ""
