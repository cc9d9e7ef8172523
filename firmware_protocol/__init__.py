"""Bytes <-> messages of the stimulator families. No I/O, no clock, no threads, no third-party import."""
