//! Live subscriptions: sessions that follow the log, filtered by the caller's filters and rights. It never stores a cursor.
