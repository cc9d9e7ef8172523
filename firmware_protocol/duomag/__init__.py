"""Deymed DuoMAG: doubled command bytes to the device, a stream of status records from it."""
