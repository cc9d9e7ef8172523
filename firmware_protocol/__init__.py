"""Bytes <-> messages of the stimulator families. No I/O, no clock, no third-party import."""
