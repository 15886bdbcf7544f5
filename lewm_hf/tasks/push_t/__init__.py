"""PushT: a round pusher moves a T-shaped block on a plane, both to a goal pose."""
