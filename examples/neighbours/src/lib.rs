//! What the sample programs say to the other services of their project, by hand: the few messages of DNS, Postgres and
//! Redis that they need. They are static binaries in images that hold nothing else, so there is no resolver and no
//! client library to load.
//!
//! Nothing here is ever sent twice behind the caller's back.

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that cannot go on says where

pub mod dns;
pub mod link;
pub mod postgres;
pub mod redis;
