"""Verbs: one word for one answer, such as ``ssh -p 2222 HOST top``.

`lines` says which commands are verbs, `table` what each does, `run` does it.
"""
