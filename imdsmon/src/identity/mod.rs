//! From pids to processes.
