//! What is in a message: whose it is, its number and when it was meant to be sent.
//!
//! Written by publishers, read by every reader out of the bytes that came. It knows no protocol
//! beyond where data stand in a `msg`, and never looks at the clock.

/// What every publication of the tool carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which stream it is of: one publisher in one channel, or one key of a board.
    pub stream: u32,
    /// 1, 2, 3 … within its stream.
    pub number: u64,
    /// When the schedule wanted it sent, µs since the run began. A publisher that is late does not
    /// move it: its lateness is part of the latency.
    pub at_us: u64,
}

/// Where the data of a message of ours begin.
const OPENING: &[u8] = br#"{"p":"#;

impl Stamp {
    /// The data as JSON text, filled up to `bytes` where it is shorter.
    pub fn data(&self, bytes: usize) -> String {
        let Self {
            stream,
            number,
            at_us,
        } = self;
        let mut text = format!(r#"{{"p":{stream},"n":{number},"at":{at_us},"x":""#);
        let fill = bytes.saturating_sub(text.len() + 2);
        text.extend(std::iter::repeat_n('x', fill));
        text.push_str("\"}");
        text
    }

    /// Reads data that begin here.
    pub fn read(data: &[u8]) -> Option<Self> {
        let (stream, rest) = number(data.strip_prefix(OPENING)?)?;
        let (number_in_stream, rest) = number(rest.strip_prefix(br#","n":"#)?)?;
        let (at_us, _rest) = number(rest.strip_prefix(br#","at":"#)?)?;
        Some(Self {
            stream: u32::try_from(stream).ok()?,
            number: number_in_stream,
            at_us,
        })
    }

    /// Finds the data in a JSON `msg`, and the offset that stands right before them.
    pub fn find(frame: &[u8]) -> Option<(u64, Self)> {
        const BETWEEN: &[u8] = br#","d":{"p":"#;
        let at = frame
            .windows(BETWEEN.len())
            .position(|window| window == BETWEEN)?;
        let before = &frame[..at];
        let digits = before
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (offset, _none) = number(&before[at - digits..])?;
        Some((offset, Self::read(&frame[at + 5..])?))
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let digits = std::str::from_utf8(digits).ok()?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_out_of_a_frame_that_is_as_long_as_was_asked() {
        let stamp = Stamp {
            stream: 7,
            number: 42,
            at_us: 1_000_001,
        };
        let data = stamp.data(128);
        assert_eq!(data.len(), 128);
        assert_eq!(Stamp::read(data.as_bytes()), Some(stamp));
        let frame = format!(r#"{{"t":"msg","ch":"load:3","o":912,"d":{data},"ts":1}}"#);
        assert_eq!(Stamp::find(frame.as_bytes()), Some((912, stamp)));
        assert_eq!(Stamp::find(br#"{"t":"ping"}"#), None);
    }
}
