"""What is fed, by families."""
