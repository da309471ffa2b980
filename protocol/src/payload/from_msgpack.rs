//! Writes a MessagePack value as JSON text, refusing what JSON cannot carry.

use std::io::Write as _;

use super::{PayloadError, check::deeper};
use crate::{
    json,
    limits::INTEGER_MAX,
    msgpack::{Head, Scanner},
};

/// The one value in `bytes` as compact JSON text.
pub(super) fn json_text(bytes: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let mut writer = Writer {
        scanner: Scanner::new(bytes),
        keys: Vec::new(),
        out: Vec::with_capacity(bytes.len()),
    };
    writer.value(0)?;
    if !writer.scanner.at_end() {
        return Err(PayloadError::Syntax {
            at: writer.scanner.at(),
        });
    }
    Ok(writer.out)
}

struct Writer<'a> {
    scanner: Scanner<'a>,
    /// The keys of every open map, the innermost last.
    keys: Vec<&'a str>,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, depth: usize) -> Result<(), PayloadError> {
        match self.scanner.head()? {
            Head::Nil => self.out.extend_from_slice(b"null"),
            Head::Bool(true) => self.out.extend_from_slice(b"true"),
            Head::Bool(false) => self.out.extend_from_slice(b"false"),
            Head::Unsigned(value) => self.unsigned(value)?,
            Head::Signed(value) => self.signed(value)?,
            Head::Float(value) => self.float(value)?,
            Head::Text(text) => json::write_string(text, &mut self.out),
            Head::Array(length) => self.array(length, deeper(depth)?)?,
            Head::Map(length) => self.map(length, deeper(depth)?)?,
            Head::Bytes(_) => return Err(PayloadError::Bytes),
            Head::Extension => return Err(PayloadError::Extension),
        }
        Ok(())
    }

    fn array(&mut self, length: u32, depth: usize) -> Result<(), PayloadError> {
        self.out.push(b'[');
        for index in 0..length {
            if index > 0 {
                self.out.push(b',');
            }
            self.value(depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, length: u32, depth: usize) -> Result<(), PayloadError> {
        let outer = self.keys.len();
        self.out.push(b'{');
        for index in 0..length {
            if index > 0 {
                self.out.push(b',');
            }
            let Head::Text(key) = self.scanner.head()? else {
                return Err(PayloadError::Key);
            };
            self.keys.push(key);
            json::write_string(key, &mut self.out);
            self.out.push(b':');
            self.value(depth)?;
        }
        let keys = &mut self.keys[outer..];
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(PayloadError::DuplicateKey);
        }
        self.keys.truncate(outer);
        self.out.push(b'}');
        Ok(())
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "an integer past 2^53 becomes a double"
    )]
    fn unsigned(&mut self, value: u64) -> Result<(), PayloadError> {
        if value > INTEGER_MAX {
            return self.float(value as f64);
        }
        self.write(format_args!("{value}"))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "an integer past 2^53 becomes a double"
    )]
    fn signed(&mut self, value: i64) -> Result<(), PayloadError> {
        if value.unsigned_abs() > INTEGER_MAX {
            return self.float(value as f64);
        }
        self.write(format_args!("{value}"))
    }

    /// The shortest text that reads back as this double; it always holds a point or an exponent.
    fn float(&mut self, value: f64) -> Result<(), PayloadError> {
        if !value.is_finite() {
            return Err(PayloadError::Number);
        }
        self.write(format_args!("{value:?}"))
    }

    fn write(&mut self, number: std::fmt::Arguments<'_>) -> Result<(), PayloadError> {
        self.out.write_fmt(number).or(Err(PayloadError::Number))
    }
}
