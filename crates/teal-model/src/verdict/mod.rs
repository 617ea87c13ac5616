//! Whether a candidate is worse than the live release, said as soon as the requests of both can tell it.
//!
//! ```text
//! statistics of both releases, every 100 ms
//!      │ counts(), Slowness            requests that ended, failed, took long
//!      ▼
//!    Watch ── Comparison: errors ─┐                         ┌▶ Keep
//!      │  └── Comparison: slow ───┼─▶ evidence (e-values) ──┼▶ Contain, Release   a share of the candidate
//!      │  └── Usual: history ─────┘                         └▶ Revert, with a Reason
//!      └▶ at the end of the bake: Promote, Extend, Inconclusive
//! ```
//!
//! Evidence is a bet against "the candidate is no worse": whoever bets against something true multiplies his money by a thousand
//! with a chance of at most one in a thousand, however often he looks. So it may be looked at ten times a second.

mod counts;
mod expert;
mod history;
mod process;
mod reason;
mod recent;
mod slow;
mod test;
mod watch;

pub use counts::{Counts, counts};
pub use history::History;
pub use reason::{Part, Reason, Warning, thousands};
pub use slow::{Line, Lines, Slow, Slowness};
pub use watch::{End, Ruling, Tick, Watch, most_share};
