"""Events under fire: whatever is killed and cut, a stream tells the room as LiveKit has it, or says that it cannot."""
