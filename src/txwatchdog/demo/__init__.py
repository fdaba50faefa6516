"""``txwatchdog demo``: a small shop that pauses its reactor as real services do, watched.

`habits` holds the functions that pause; `shop` the service around them; `site` its pages;
`keys` decides who may log in; `announce` says it all; `serve` puts the rooms together.
"""
