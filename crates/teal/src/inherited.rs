//! A descriptor that this process was started with.
#![allow(unsafe_code)]

use rustix::io::{FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes it over.
///
/// # Errors
/// There is no such descriptor.
pub fn descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if number <= 2 {
        // Standard input, output and error stay what they are: the standard library expects them to be open.
        // SAFETY: it is borrowed for this call only, and the call fails if it is not open.
        return unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
    }
    // What is not open is refused here; what is, does not leak into programs that are started later.
    // SAFETY: it is borrowed for this call only, and the call fails if it is not open.
    fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nothing else in this process owns it: it was inherited for this purpose, and this runs once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn an_open_descriptor_is_taken_over_and_another_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        drop(descriptor(file).unwrap());
        assert!(descriptor(-1).is_err());
        assert!(descriptor(1_000_000).is_err());
        assert!(descriptor(0).is_ok());
    }
}
