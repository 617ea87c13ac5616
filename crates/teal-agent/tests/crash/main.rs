//! The agent dies, its disk is full, its proxy is silent, at every step of a deployment; the promises hold.
//!
//! Engine and proxy are in memory and outlive the agent; the journal is the real one on disk.

#![allow(clippy::unwrap_used)]

mod acknowledgement;
mod adopt;
mod again;
mod alerts;
mod anonymous;
mod batches;
mod canary;
mod death;
mod deaths;
mod followers;
mod groups;
mod growing;
mod journal;
mod jury;
mod left_over;
mod migrate;
mod names;
mod outside;
mod preview;
mod process;
mod prune;
mod reach;
mod shop;
mod stage;
mod warm;
mod words;
