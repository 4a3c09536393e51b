"""One allowance in a sliding window: so much of something in any so many seconds. Pure bookkeeping of one owner."""

from collections import deque

from liqmap.exchanges.adapter import Budget


class Spending:
    """`share` of the limit is what we take: the venue's window is not ours to the millisecond, and requests that left
    apart may arrive together."""

    def __init__(self, budget: Budget, share: float) -> None:
        self.limit = budget.limit
        self._most = max(1.0, budget.limit * share)
        self._per_ns = int(budget.per_s * 1e9)
        self._spent: deque[tuple[int, int]] = deque()
        self._sum = 0

    def spent(self, now_ns: int) -> int:
        """What was spent in the window that ends now."""
        while self._spent and now_ns - self._spent[0][0] >= self._per_ns:
            self._sum -= self._spent.popleft()[1]
        return self._sum

    def wait_s(self, now_ns: int, weight: int = 1) -> float:
        """Seconds until `weight` may be spent; 0: now. More than our whole share may be spent when nothing else is."""
        over = self.spent(now_ns) + weight - self._most
        if over <= 0 or not self._spent:
            return 0.0
        for at_ns, spent in self._spent:
            over -= spent
            if over <= 0:
                return max(1, at_ns + self._per_ns - now_ns) / 1e9
        return max(1, self._spent[-1][0] + self._per_ns - now_ns) / 1e9

    def spend(self, now_ns: int, weight: int = 1) -> None:
        """Charge it."""
        self._spent.append((now_ns, weight))
        self._sum += weight
