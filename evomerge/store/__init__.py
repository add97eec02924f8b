"""The run folder and its SQLite database; the driver of a run is their only writer.

- `run_dir.py`: the folder of one run (config, environment, database, log, best recipe)
- `database.py`: records, item scores and the optimizer's state, one transaction a record
- `packing.py`: item scores to and from compact blobs
- `lock.py`: one writer per run, also after `kill -9`
- `environment.py`: versions and machine, for `environment.json`
- `status.py`: where a run stands, as plain data
- `files.py`: atomic files, and what an operating-system or SQLite error means for the user
"""

from evomerge.store.database import Database
from evomerge.store.environment import changed_versions, collect_environment
from evomerge.store.run_dir import RunDir

__all__ = ["Database", "RunDir", "changed_versions", "collect_environment"]
