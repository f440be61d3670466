"""One controller a room: what each subscriber should have of each track is decided, asked for, seen and held."""
