//! Named tasks with a failure policy, joined at stop within a deadline. It never knows what a task does.
