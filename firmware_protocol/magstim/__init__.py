"""Magstim 200², BiStim² and Rapid²: the serial protocol of their main units."""
