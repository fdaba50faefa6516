"""Rings: the ways to take a sample; each one backs up the one inside it."""
