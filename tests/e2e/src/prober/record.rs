//! What is kept of each request: 24 bytes, and more words for the first failures.

use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;

/// One request and what became of it. Times are CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// When the user wanted to send it.
    pub due_us: u64,
    /// How much later it was sent: the client was busy with the request before, or had to connect first.
    pub late_us: u32,
    /// From the first byte sent until the last byte received, or until the failure. Held at the maximum beyond 71 min.
    pub took_us: u32,
    pub client: u16,
    /// Index in `Report::versions`; 0 stands for an answer without a version.
    pub version: u16,
    /// 0: no status line came.
    pub status: u16,
    pub kind: Kind,
    pub cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    Get,
    Post,
    Slow,
    WebSocketOpen,
    WebSocketMessage,
}

/// Why a request failed, as its user saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Cause {
    Refused,
    /// Any other error of connect.
    NoConnection,
    /// End of stream before the first byte of an answer.
    Closed,
    /// Reset before the first byte of an answer.
    Reset,
    /// End of stream within the answer.
    Truncated,
    /// Reset within the answer.
    ResetInAnswer,
    Timeout,
    Status500,
    Status502,
    Status503,
    Status504,
    /// Neither 2xx nor one of the above.
    OtherStatus,
    /// Not the body, or not the echo, that was expected.
    WrongBody,
    /// The answer names another request's id: answers were mixed up.
    WrongRequest,
    /// Not HTTP, or not WebSocket.
    Malformed,
    /// Bytes that no request asked for.
    Unsolicited,
    /// A WebSocket that ended without a close frame, or with a message unanswered.
    WebSocketLost,
}

/// A failure with what is needed to look into it.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub cause: Cause,
    pub kind: Kind,
    pub client: u16,
    pub request_id: String,
    pub sent_us: u64,
    pub failed_us: u64,
    /// 1 for the first request of a connection.
    pub on_connection: u32,
    /// How long the connection had been idle when the request was sent; 0 for a fresh one.
    pub idle_us: u64,
    /// The client's end of the connection.
    pub from: Option<SocketAddr>,
    pub detail: String,
}

impl Record {
    pub fn sent_us(&self) -> u64 {
        self.due_us + u64::from(self.late_us)
    }

    /// When the last byte came, or the failure.
    pub fn ended_us(&self) -> u64 {
        self.sent_us() + u64::from(self.took_us)
    }

    /// From when it was due until it ended: what the user waited.
    pub fn latency_us(&self) -> u64 {
        u64::from(self.late_us) + u64::from(self.took_us)
    }

    pub fn ok(&self) -> bool {
        self.cause.is_none()
    }
}

impl Cause {
    pub(crate) fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => None,
            500 => Some(Self::Status500),
            502 => Some(Self::Status502),
            503 => Some(Self::Status503),
            504 => Some(Self::Status504),
            _ => Some(Self::OtherStatus),
        }
    }

    /// The answer came whole; what it says is the failure.
    pub(crate) fn is_status(self) -> bool {
        matches!(self, Self::Status500 | Self::Status502 | Self::Status503 | Self::Status504 | Self::OtherStatus)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::NoConnection => "no connection",
            Self::Closed => "closed before an answer",
            Self::Reset => "reset before an answer",
            Self::Truncated => "closed within the answer",
            Self::ResetInAnswer => "reset within the answer",
            Self::Timeout => "timeout",
            Self::Status500 => "status 500",
            Self::Status502 => "status 502",
            Self::Status503 => "status 503",
            Self::Status504 => "status 504",
            Self::OtherStatus => "unexpected status",
            Self::WrongBody => "wrong body",
            Self::WrongRequest => "answer to another request",
            Self::Malformed => "malformed answer",
            Self::Unsolicited => "unsolicited bytes",
            Self::WebSocketLost => "WebSocket lost",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({:?} {} sent at {} us, failed {} us later, request {} of its connection, idle {} us before): {}",
            self.cause,
            self.kind,
            self.request_id,
            self.sent_us,
            self.failed_us.saturating_sub(self.sent_us),
            self.on_connection,
            self.idle_us,
            self.detail
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert_eq!(size_of::<Record>(), 24);
    }
}
