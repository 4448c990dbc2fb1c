//! The few calls of keyrings(7) that are needed, on the process keyring alone.

use std::ffi::CStr;

use rustix::io::Errno;

use crate::secret::Secret;

const PROCESS_KEYRING: i32 = -2;

const GET_KEYRING_ID: i32 = 0;
const SETPERM: i32 = 5;
const DESCRIBE: i32 = 6;
const UNLINK: i32 = 9;
const READ: i32 = 11;
const SET_TIMEOUT: i32 = 15;
const INVALIDATE: i32 = 21;

/// The possessor may view, read and search (which invalidating asks for); nobody else anything.
/// Without `setattr` not even the possessor can put the timeout off, or take these back.
pub(super) const POSSESSOR_ONLY: u32 = 0x0b00_0000;

/// A key's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Serial(pub(super) i32);

/// Makes the process keyring if there is none.
pub(super) fn join() -> Result<(), Errno> {
    keyctl(GET_KEYRING_ID, PROCESS_KEYRING as usize, 1, 0).map(drop)
}

/// A new key of type `user` in the process keyring.
pub(super) fn add(description: &CStr, payload: &Secret<32>) -> Result<Serial, Errno> {
    let payload = payload.expose();
    // SAFETY: two strings that end in NUL, 32 bytes to be read, and a keyring's number.
    let serial = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            description.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            PROCESS_KEYRING,
        )
    };
    outcome(serial).map(|serial| Serial(serial as i32))
}

/// From now on, `seconds` of CLOCK_REALTIME; the kernel refuses the key afterwards.
pub(super) fn set_timeout(key: Serial, seconds: u32) -> Result<(), Errno> {
    keyctl(SET_TIMEOUT, key.0 as usize, seconds as usize, 0).map(drop)
}

pub(super) fn set_permissions(key: Serial, permissions: u32) -> Result<(), Errno> {
    keyctl(SETPERM, key.0 as usize, permissions as usize, 0).map(drop)
}

/// Who may do what, as the kernel has it.
pub(super) fn permissions(key: Serial) -> Result<u32, Errno> {
    let mut text = [0u8; 256];
    let length = keyctl(DESCRIBE, key.0 as usize, text.as_mut_ptr() as usize, text.len())?;
    let text = text.get(..length.saturating_sub(1)).unwrap_or_default();
    // "type;uid;gid;permissions;description"
    let field = text.split(|byte| *byte == b';').nth(3).unwrap_or_default();
    let field = str::from_utf8(field).unwrap_or_default();
    u32::from_str_radix(field, 16).map_err(|_| Errno::INVAL)
}

/// Copies the key out.
pub(super) fn read(key: Serial, out: &mut Secret<32>) -> Result<(), Errno> {
    let (place, room) = (out.expose_mut().as_mut_ptr() as usize, out.expose().len());
    let length = keyctl(READ, key.0 as usize, place, room)?;
    if length == room { Ok(()) } else { Err(Errno::INVAL) }
}

/// Ends the key: the kernel zeroes its payload as soon as nobody is looking at it. A key whose time
/// is up can no longer be invalidated, so it is taken out of its keyring too.
pub(super) fn destroy(key: Serial) {
    // Refused only where the kernel has ended the key already.
    let _ = keyctl(INVALIDATE, key.0 as usize, 0, 0);
    let _ = keyctl(UNLINK, key.0 as usize, PROCESS_KEYRING as usize, 0);
}

fn keyctl(call: i32, one: usize, two: usize, three: usize) -> Result<usize, Errno> {
    // SAFETY: the callers above hand in numbers, or the address and length of a live buffer that
    // the kernel fills at most to that length.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, call, one, two, three, 0usize) };
    outcome(done).map(|done| done as usize)
}

fn outcome(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned >= 0 {
        return Ok(returned);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
