"""What a training run is made of; `training/train.py` shows how the parts make one."""
