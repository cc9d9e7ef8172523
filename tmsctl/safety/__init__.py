"""Why the project exists: limits, rules, state machine, permits, dose arithmetic. Pure."""
