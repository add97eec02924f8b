"""Checkpoints as they lie on the disk.

- `model.py`: an opened checkpoint; `checkpoint.py`: its tensors, memory-mapped and read one at a time
- `architecture.py`: role and layer of each tensor; `naming.py`: which parameter each tensor fills; `places.py`
- `device_copies.py`: tensors that stay on the device where candidates are made of them
- `fingerprint.py`: what a checkpoint is known by; `pages.py`: advice to the system about mapped memory
"""
