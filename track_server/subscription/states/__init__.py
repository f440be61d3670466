"""What of a subscriber only its own client sees: its state, as it is reported."""
