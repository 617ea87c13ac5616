//! The control plane: owns Docker, the journal and the API, and tells the proxy what to do.

pub mod runtime;
