"""What a session is: confirm, run, close. Pure but for the journal that it is given."""
