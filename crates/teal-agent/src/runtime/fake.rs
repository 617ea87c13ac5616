//! The engine in memory, with faults on demand.
