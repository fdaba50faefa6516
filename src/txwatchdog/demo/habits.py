"""Bad habits: what services do in the reactor's thread, and should not.

Each function blocks for real (a real query, a real socket, real work), so that the watchdog has
something real to blame. Each docstring says in its last paragraph what would have been right; the
index page shows it.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

__all__ = [
    "export_report",
    "query_orders",
    "read_inventory",
    "render_catalogue",
    "retry_payment",
    "wait_for_approval",
]

_ROW = Template(
    "<tr><td>$sku</td><td>$name</td><td>$description</td><td>$price</td><td>$stock</td></tr>"
)


def query_orders(database: sqlite3.Connection, customers: int) -> str:
    """Run a slow SQL query, and wait for it.

    The right way: twisted.enterprise.adbapi, or deferToThread with a connection of its own; and an
    index, which this query cannot use.
    """
    ((notes,),) = database.execute(
        "SELECT count(*) FROM orders AS o JOIN orders AS p"
        " ON p.note LIKE '%' || o.customer || '%' WHERE o.id <= ?",
        (customers,),
    )
    return f"{notes} notes name one of the first {customers} customers"


def retry_payment(seconds: float) -> str:
    """Retry with time.sleep in between.

    The right way: await deferLater(reactor, delay) between the attempts, as /fast does.
    """
    attempts = 4
    # Waits double, and add up to what was asked for.
    delay = seconds / (2 ** (attempts - 1) - 1)
    for _attempt in range(attempts - 1):
        time.sleep(delay)
        delay *= 2
    return f"the payment gateway accepted attempt {attempts}"


def read_inventory(warehouse: tuple[str, int], seconds: float) -> str:
    """Read a slow peer by a blocking socket.

    The right way: a Protocol over an endpoint, whose dataReceived is called when the answer comes.
    """
    with socket.create_connection(warehouse) as connection:
        # The warehouse takes its time because it is told to; real ones need no telling.
        connection.sendall(f"stock, in {seconds:.3f} s\n".encode())
        answer = connection.recv(4096)
    return answer.decode().strip() or "the warehouse hung up"


def render_catalogue(products: Sequence[Mapping[str, str]], rows: int) -> str:
    """Render a big template in pure Python.

    The right way: render only the rows that are shown; or yield to the reactor every few
    milliseconds with twisted.internet.task.cooperate; or render in a worker process.
    """
    shown = []
    for number in range(rows):
        product = products[number % len(products)]
        # No comprehension: before Python 3.12 it would be a frame of its own, and be blamed.
        escaped = dict(zip(product, map(escape, product.values()), strict=True))
        row = _ROW.substitute(escaped)
        if number < 20:  # renders them all, and shows the first page
            shown.append(row)
    return f"<table>{''.join(shown)}</table>"


def export_report(sales: Sequence[Mapping[str, object]], copies: int) -> str:
    """Turn something huge into JSON at once.

    The right way: json.JSONEncoder().iterencode a bit at a time with task.cooperate, or a worker
    process; a thread would not help, since json.dumps keeps the GIL.
    """
    return json.dumps(list(sales) * copies)


def wait_for_approval(seconds: float) -> str:
    """Sleep for as long as it is told.

    The right way: await deferLater(reactor, seconds), or better: be told when it is approved.
    """
    time.sleep(seconds)
    return f"approved after {seconds:g} s"
