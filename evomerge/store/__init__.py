"""The run folder and its SQLite database; the driver of a run is their only writer.

- `run_dir.py`: the folder of one run (config, environment, database, log, best recipe)
- `database.py`: records, item scores and the strategy's state, in transactions
- `log.py`: the run's log, which may lose lines but ends no search
- `packing.py`: item scores as compact blobs
- `lock.py`: one writer per run, even after `kill -9`
- `environment.py`: versions and machine, for `environment.json`
- `status.py`: where a run stands, as plain data
"""

from evomerge.store.database import Database
from evomerge.store.environment import changed_versions, collect_environment
from evomerge.store.run_dir import RunDir

__all__ = ["Database", "RunDir", "changed_versions", "collect_environment"]
