//! Which trace a publication belongs to, as W3C's Trace Context writes it in `traceparent`.
//!
//! Read from HTTP and from `pub`, carried by the node's broker. Never part of what readers get.

use std::fmt::{self, Write};

/// A span of a trace, to be the parent of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never all zero.
    pub trace: [u8; 16],
    /// The span; never all zero.
    pub span: [u8; 8],
    /// Whether the caller records the trace: then so do those it calls.
    pub sampled: bool,
}

/// The fields of version 00, which every later version begins with.
const TEXT_BYTES: usize = 55;
/// The version that is none.
const NO_VERSION: &str = "ff";
/// The bit of the flags that says sampled.
const SAMPLED: u8 = 1;

impl TraceParent {
    /// Reads `00-<trace>-<span>-<flags>`. None: it is not one, and W3C says to go on without.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(TEXT_BYTES)?;
        let mut fields = known.split('-');
        let mut next = |len: usize| fields.next().filter(|field| field.len() == len);
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let [_version] = bytes::<1>(version)?;
        let [flags] = bytes::<1>(flags)?;
        let is_whole = match version {
            NO_VERSION => false,
            "00" => more.is_empty(),
            _later => more.is_empty() || more.starts_with('-'),
        };
        let parent = Self {
            trace: bytes(trace)?,
            span: bytes(span)?,
            sampled: flags & SAMPLED != 0,
        };
        (is_whole && parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
    }
}

/// Lowercase hexadecimal digits, as the format wants them.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _other => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_char('-')?;
        self.span
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_is_read_and_written_as_w3c_shows_it() {
        let parent = TraceParent::parse(TEXT).unwrap();
        assert_eq!(parent.trace[..2], [0x4b, 0xf9]);
        assert_eq!(parent.span[6..], [0x02, 0xb7]);
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), TEXT);
        let quiet = TEXT.replace("-01", "-02");
        assert!(!TraceParent::parse(&quiet).unwrap().sampled);
        let later = TEXT.replacen("00", "42", 1) + "-more";
        assert_eq!(TraceParent::parse(&later), Some(parent));
    }

    #[test]
    fn what_is_no_parent_is_passed_over() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-001",
            "ää-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
