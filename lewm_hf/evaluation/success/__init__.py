"""Planning success: protocols, pairs, roll-outs, intervals and films."""
