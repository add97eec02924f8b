"""Checkpoints as they lie on the disk.

- `model.py`: an opened checkpoint; `checkpoint.py`: its tensors, memory-mapped and read one at a time
- `weights.py`: which files those are, as transformers finds them; `header.py`: the header of one, checked
- `belongings.py`: what belongs to a model beside weights: tokenizer, processor, chat templates, code
- `tokens.py`: the tokens of a tokenizer, and in which two differ
- `architecture.py`: role and layer of each tensor; `places.py`: these as plain data
- `naming.py`: which parameter each tensor fills
- `probe.py`: where the entries of tensors go that fill a parameter together
- `settings.py`: by which settings two models compute other functions; `rope.py`: whether their angles are the same;
  `code_words.py`: what the code of a model reads
- `kept.py`: dequantised tensors that stay in memory for the next candidate
- `device_copies.py`: parents' tensors that stay on the device where candidates are made
- `fingerprint.py`: whether two copies of a checkpoint are equal; `pages.py`: advice to the system about mapped memory;
  `stored.py`: which mapped tensors a tensor comes from
"""
