"""The reason the project exists: limits, rules, the state machine, permits, dose arithmetic. Pure."""
