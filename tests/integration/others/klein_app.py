"""A klein app with a route that sleeps."""

import sys
import time

from klein import Klein

app = Klein()


@app.route("/slow")
def slow(_request):
    """Pause the reactor."""
    time.sleep(0.4)
    return "slow"


app.run("127.0.0.1", int(sys.argv[1]))
