"""The service that is watched: a shop, what it owns, and a job of its own."""

from __future__ import annotations

import inspect
import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from txwatchdog.demo import habits
from txwatchdog.demo.pace import Paced
from txwatchdog.demo.warehouse import Warehouse

__all__ = [
    "CHORES_BEGIN_AFTER",
    "CHORES_EVERY",
    "LONGEST_WORK",
    "Shop",
    "Task",
    "chore_lengths",
]

# Seconds. One pause of about a second every six leaves the pages usable.
CHORES_BEGIN_AFTER = 2.0
CHORES_EVERY = 6.0
# Seconds that a task may be told to work: a report of 5 s is some 200 MB of JSON while it lasts.
LONGEST_WORK = 5.0

# Times the threshold. All are well above 1, so that a task that ends early is still a pause; four
# lengths and five tasks, so that each task comes in each length.
_LENGTHS = (1.8, 2.4, 3.0, 1.6)
_USUAL_THRESHOLD = 0.5


def chore_lengths(threshold: float) -> tuple[float, ...]:
    """Return how many seconds the shop's own job pauses, in turn.

    With the usual threshold that is 0.8 to 1.5 s, likewise with a lower one; it grows with a
    higher one, within `LONGEST_WORK`.
    """
    unit = max(threshold, _USUAL_THRESHOLD)
    return tuple(min(unit * length, LONGEST_WORK) for length in _LENGTHS)


@frozen
class Task:
    """One thing that the shop does in the reactor's thread.

    Attributes:
        path: The page that does it, without the slash.
        function: The name of the function that the watchdog will blame.
        bad_habit: What is wrong with it, in one sentence.
        right_way: What would be right.
        work: Does it for about so many seconds, and says what came of it.
        longest: The most seconds that it may be told to take.
    """

    path: str
    function: str
    bad_habit: str
    right_way: str
    work: Callable[[float], str]
    longest: float = LONGEST_WORK

    @classmethod
    def of(
        cls,
        path: str,
        habit: Callable[..., str],
        work: Callable[[float], str],
        longest: float = LONGEST_WORK,
    ) -> Task:
        """Make the task that does `habit` by calling `work`, described by `habit`'s docstring."""
        # None with python -OO, which strips docstrings.
        bad_habit, _, right_way = (inspect.getdoc(habit) or "").partition("\n\n")
        right_way = " ".join(right_way.split()).removeprefix("The right way: ")
        return cls(path, habit.__name__, bad_habit, right_way, work, longest)


class Shop:
    """A shop whose every task blocks. All of it belongs to the reactor's thread.

    Attributes:
        database: A real SQLite database in memory, with a table ``orders``.
        tasks: What the pages do, by path.
        visits: How often each path was asked for.
        job: The `LoopingCall` that calls the tasks now and then; ``job.stop()`` gives peace,
            ``job.start(6)`` takes it away.

    Args:
        clock: The reactor.
        threshold: The watchdog's: the job's pauses are a little longer.
    """

    _log = Logger(namespace="txwatchdog.demo")

    def __init__(self, clock: IReactorTime, threshold: float) -> None:
        self.database = _make_database()
        self.visits: Counter[str] = Counter()
        self._warehouse = Warehouse()
        self.tasks = {task.path: task for task in self._make_tasks()}
        self._chores = self._make_chores(threshold)
        self.job = LoopingCall(self._call_chore)
        self.job.clock = clock
        self._clock = clock

    def __repr__(self) -> str:
        job = "at work" if self.job.running else "at rest"
        visits = self.visits.total()
        return f"<Shop: {visits} visits, job {job}; see .tasks .visits .database .job>"

    def open(self) -> None:
        """Begin the job. Call it when the reactor runs."""
        self._clock.callLater(CHORES_BEGIN_AFTER, self._begin_job)

    def close(self) -> None:
        """End the job and let go of what the shop owns; may be repeated."""
        if self.job.running:
            self.job.stop()
        self._warehouse.close()
        self.database.close()

    def do_chore(self) -> None:
        """Do the job's next task, in the reactor's thread: that is the pause to see."""
        task, seconds = next(self._chores)
        task.work(seconds)

    def _call_chore(self) -> None:
        # In a turn of its own: one that is due when a page has slept would else add its time to
        # that page's pause.
        self._clock.callLater(0, self._do_chore_if_at_work)

    def _do_chore_if_at_work(self) -> None:
        if self.job.running:
            self.do_chore()

    def _begin_job(self) -> None:
        if not self.job.running:
            self.job.start(CHORES_EVERY).addErrback(
                lambda failure: self._log.failure("the job has ended", failure)
            )

    def _make_chores(self, threshold: float) -> Iterator[tuple[Task, float]]:
        chores = [task for path, task in self.tasks.items() if path != "sleep"]
        return zip(itertools.cycle(chores), itertools.cycle(chore_lengths(threshold)), strict=False)

    def _make_tasks(self) -> Iterator[Task]:
        orders = Paced(lambda customers: habits.query_orders(self.database, customers))
        products = _make_products()
        catalogue = Paced(lambda rows: habits.render_catalogue(products, rows))
        sales = _make_sales()
        # The megabytes themselves are of no use to anyone.
        report = Paced(lambda n: f"{len(habits.export_report(sales, n)) / 1e6:.1f} MB of JSON")
        for paced in (orders, catalogue, report):
            paced.warm_up()
        warehouse = self._warehouse.address
        # First, so that the job's first pause is as long as it is meant to be on any machine.
        yield Task.of("payment", habits.retry_payment, habits.retry_payment, 60.0)
        yield Task.of("orders", habits.query_orders, orders)
        yield Task.of(
            "inventory",
            habits.read_inventory,
            lambda seconds: habits.read_inventory(warehouse, seconds),
            60.0,
        )
        yield Task.of("catalogue", habits.render_catalogue, catalogue)
        yield Task.of("report", habits.export_report, report)
        yield Task.of("sleep", habits.wait_for_approval, habits.wait_for_approval, 3600.0)


def _make_database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, note TEXT)")
    database.executemany(
        "INSERT INTO orders (customer, note) VALUES (?, ?)",
        (
            (f"customer-{number % 997}", f"left with customer-{number * 7 % 997}, rang twice")
            for number in range(5000)
        ),
    )
    database.commit()
    return database


def _make_products() -> list[dict[str, str]]:
    return [
        {
            "sku": f"SKU-{number:04}",
            "name": f"Hammer & nails, set {number}",
            "description": f"<em>{number}</em> nails and the hammer that goes with them",
            "price": f"{number * 1.07:.2f}",
            "stock": str(number % 13),
        }
        for number in range(200)
    ]


def _make_sales() -> list[dict[str, object]]:
    dice = random.Random(1)  # noqa: S311 - figures for a report, no secret
    return [
        {
            "sku": f"SKU-{number:04}",
            "revenue": dice.random(),
            "margin": dice.random(),
            "weeks": [dice.random() for _ in range(12)],
        }
        for number in range(200)
    ]
