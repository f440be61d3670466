"""Standing rules about subscriptions: who receives what."""
