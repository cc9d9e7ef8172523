"""tmsd: talks to people's programs, keeps the records, looks after the guard."""
