"""The only place that opens ports."""
