//! HTTP/2 frames counted as they come in: those that carry nothing must be few.
//!
//! h2 bounds what each kind of frame can make it keep. What none of its limits bounds is the work:
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM and empty DATA can be sent for ever, each
//! within the rules (CVE-2019-9512 and its family, CVE-2023-44487). So a connection has an
//! allowance: frames that carry nothing spend it; time, requests and bytes that move restore it.

use crate::clock::Boot;

/// What opens an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// What a connection may spend at once; also where it begins.
const ALLOWANCE: i64 = 2000;
/// Restored each second.
const PER_SECOND: u64 = 200;
/// Restored by a request: its client updates windows, acknowledges, now and then gives up.
const PER_REQUEST: i64 = 2;
/// Bytes that restore one, in either direction.
const BYTES_EACH: u64 = 1024;
/// What a reset costs: more than its request restored.
const RESET_COSTS: i64 = 4;

/// Where one connection stands.
pub(super) struct Frames {
    state: State,
    allowance: i64,
    bytes: u64,
    restored_at: Boot,
}

enum State {
    /// So many bytes of the preface have matched.
    Opening(usize),
    /// Another protocol: nothing to count.
    Other,
    /// A frame's head, as far as it has come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are still to come.
    Inside(usize),
}

impl Frames {
    pub const fn new(now: Boot) -> Self {
        Self { state: State::Opening(0), allowance: ALLOWANCE, bytes: 0, restored_at: now }
    }

    /// Whether there is anything to count.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Other)
    }

    /// Bytes that have left restore the allowance, too.
    pub const fn wrote(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Looks at bytes that have come in; false once there was too much for nothing.
    pub fn read(&mut self, mut bytes: &[u8], now: impl FnOnce() -> Boot) -> bool {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Other => return true,
                State::Opening(matched) => {
                    let used = bytes.len().min(PREFACE.len() - *matched);
                    if bytes[..used] != PREFACE[*matched..*matched + used] {
                        self.state = State::Other;
                        return true;
                    }
                    *matched += used;
                    if *matched == PREFACE.len() {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                    used
                }
                State::Inside(left) => {
                    let used = bytes.len().min(*left);
                    *left -= used;
                    if *left == 0 {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                    used
                }
                State::Head(head, have) => {
                    let used = bytes.len().min(HEAD_BYTES - *have);
                    head[*have..*have + used].copy_from_slice(&bytes[..used]);
                    *have += used;
                    if *have == HEAD_BYTES {
                        let head = *head;
                        self.frame(head);
                    }
                    used
                }
            };
            bytes = &bytes[used..];
        }
        self.allowance >= 0 || self.restore(now())
    }

    fn frame(&mut self, head: [u8; HEAD_BYTES]) {
        let [a, b, c, kind, flags, ..] = head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            DATA if length > 0 => self.wrote(length),
            DATA if flags & END_STREAM != 0 => {}
            HEADERS => self.allowance = (self.allowance + PER_REQUEST).min(ALLOWANCE),
            RST_STREAM => self.allowance -= RESET_COSTS,
            _ => self.allowance -= 1,
        }
        self.state =
            if length == 0 { State::Head([0; HEAD_BYTES], 0) } else { State::Inside(length) };
    }

    /// Adds what time and bytes have earned; whether that is enough.
    fn restore(&mut self, now: Boot) -> bool {
        let millis = u64::try_from(now.since(self.restored_at).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(PER_SECOND) / 1000 + self.bytes / BYTES_EACH;
        (self.restored_at, self.bytes) = (now, 0);
        let earned = i64::try_from(earned).unwrap_or(ALLOWANCE);
        self.allowance = self.allowance.saturating_add(earned).min(ALLOWANCE);
        self.allowance >= 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Boot {
        Boot::from_start(Duration::from_millis(millis))
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD_BYTES + payload, 0);
        bytes
    }

    fn opened() -> Frames {
        let mut frames = Frames::new(at(0));
        assert!(frames.read(PREFACE, || at(0)));
        frames
    }

    /// How many of these go through within one moment, up to 100 000.
    fn taken(message: &[u8]) -> usize {
        let mut frames = opened();
        (0..100_000).take_while(|_| frames.read(message, || at(0))).count()
    }

    #[test]
    fn frames_that_carry_nothing_are_few() {
        for (kind, payload) in [(DATA, 0), (2, 5), (4, 0), (6, 8), (8, 4), (9, 0), (200, 1)] {
            let taken = taken(&frame(kind, 0, payload));
            assert!((2000..2002).contains(&taken), "{taken} of {kind}");
        }
        let request_and_reset = [frame(HEADERS, 5, 20), frame(RST_STREAM, 0, 4)].concat();
        assert!((990..1010).contains(&taken(&request_and_reset)));
    }

    #[test]
    fn requests_with_their_bodies_and_acknowledgements_are_not_bounded() {
        let window = frame(8, 0, 4);
        let asked = [frame(HEADERS, 5, 20), window.clone(), window.clone()].concat();
        assert_eq!(taken(&asked), 100_000);
        let uploaded = [frame(DATA, 0, 16_384), window.clone()].concat();
        assert_eq!(taken(&uploaded), 100_000);
        // A download: the client only acknowledges.
        let mut frames = opened();
        for _ in 0..100_000 {
            frames.wrote(16_384);
            assert!(frames.read(&[window.clone(), window.clone()].concat(), || at(0)));
        }
    }

    #[test]
    fn time_restores_and_pieces_do_not_matter() {
        let mut frames = opened();
        let ping = frame(6, 0, 8);
        for second in 1..100 {
            for _ in 0..200 {
                for byte in ping.chunks(3) {
                    assert!(frames.read(byte, || at(second * 1000)));
                }
            }
        }
        let mut other = Frames::new(at(0));
        assert!(other.read(b"PRI", || at(0)) && !other.is_over());
        assert!(other.read(b"NT / HTTP/1.1\r\n", || at(0)) && other.is_over());
    }
}
