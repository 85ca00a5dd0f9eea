//! State derived from the log: search, associations, timelines, port calls. Deletable and rebuildable; it never holds a truth of its own.
