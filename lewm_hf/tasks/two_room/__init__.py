"""TwoRoom: a disk must reach a point in the other room through a door."""
