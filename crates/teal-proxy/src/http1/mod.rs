//! HTTP/1.1 on the wire (RFC 9112): heads are parsed strictly and written anew, bodies pass through a decoder.
//!
//! ```text
//! bytes from the peer ──▶ Buffer ──▶ request::translate / response::translate ──▶ the head for the other side
//!                            └─────▶ body::Decoder ──▶ pieces ──▶ body::encode ──▶ bytes for the other side
//! ```
//!
//! Nothing of a message's framing is ever copied from one side to the other: lengths and chunks are what this
//! proxy understood, so two parsers cannot disagree about where a message ends (request smuggling).

pub(crate) mod body;
pub(crate) mod buffer;
pub(crate) mod field;
pub(crate) mod head;
pub(crate) mod request;
pub(crate) mod response;
