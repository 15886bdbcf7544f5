"""World models behind one contract (`base.py`), one file each; anybody's own class with the same members is another."""
