"""The full-screen view: what the reactor does, each second anew, also during a pause.

`history` and `model` know what is to be shown and what a key means, `page` lays it out; all three
are pure. `screen` puts it on a session's terminal.
"""
