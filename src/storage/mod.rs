//! Owns every synchronous write: the journal, the one sled thread, sorted runs, recovery. It never knows what an event means.
