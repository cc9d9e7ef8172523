"""What to deliver: prescriptions, the protocol library, the compiled pulse plan."""
