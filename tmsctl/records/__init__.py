"""What happened, kept so that no crash can lose a delivered pulse."""
