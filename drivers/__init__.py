"""Transports, and one driver for each stimulator family, behind the port in `drivers.contract`."""
