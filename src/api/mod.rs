//! The tonic services, thin: they turn messages into calls of the rooms below and errors into statuses. It never decides anything.
