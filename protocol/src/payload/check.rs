//! The rules of `d` for JSON text, checked in one pass without a tree.

use super::PayloadError;
use crate::{
    json::{Scanner, Text},
    limits::DEPTH_MAX,
};

/// Texts of numbers at least this long may pass the largest double without an exponent.
const PLAIN_NUMBER_BYTES_MAX: usize = 300;

/// Returns the one value in `text` without the white space around it.
pub(super) fn json(text: &str) -> Result<&str, PayloadError> {
    let mut checker = Checker {
        scanner: Scanner::new(text),
        keys: Vec::new(),
    };
    checker.scanner.space();
    let start = checker.scanner.at();
    checker.value(0)?;
    let value = checker.scanner.since(start);
    checker.scanner.space();
    if checker.scanner.peek().is_some() {
        checker.scanner.broken()?;
    }
    Ok(value)
}

struct Checker<'a> {
    scanner: Scanner<'a>,
    /// The keys of every open object, the innermost last.
    keys: Vec<Text<'a>>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, depth: usize) -> Result<(), PayloadError> {
        match self.scanner.peek() {
            Some(b'{') => self.object(deeper(depth)?),
            Some(b'[') => self.array(deeper(depth)?),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => Ok(self.scanner.word("true")?),
            Some(b'f') => Ok(self.scanner.word("false")?),
            Some(b'n') => Ok(self.scanner.word("null")?),
            Some(_) | None => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), PayloadError> {
        let outer = self.keys.len();
        let mut more = self.scanner.open(b'{', b'}')?;
        while more {
            let key = self.scanner.key()?;
            well_formed(key)?;
            self.keys.push(key);
            self.value(depth)?;
            more = self.scanner.more(b'}')?;
        }
        let keys = &mut self.keys[outer..];
        keys.sort_unstable_by(|one, other| one.compare(*other));
        if keys.windows(2).any(|pair| pair[0].compare(pair[1]).is_eq()) {
            return Err(PayloadError::DuplicateKey);
        }
        self.keys.truncate(outer);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), PayloadError> {
        let mut more = self.scanner.open(b'[', b']')?;
        while more {
            self.value(depth)?;
            more = self.scanner.more(b']')?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Text<'a>, PayloadError> {
        let text = self.scanner.string()?;
        well_formed(text)?;
        Ok(text)
    }

    fn number(&mut self) -> Result<(), PayloadError> {
        let text = self.scanner.number()?;
        let plain = text.len() < PLAIN_NUMBER_BYTES_MAX
            && !text.bytes().any(|byte| matches!(byte, b'e' | b'E'));
        if plain || text.parse::<f64>().is_ok_and(f64::is_finite) {
            Ok(())
        } else {
            Err(PayloadError::Number)
        }
    }
}

fn well_formed(text: Text<'_>) -> Result<(), PayloadError> {
    if text.is_well_formed() {
        Ok(())
    } else {
        Err(PayloadError::Surrogate)
    }
}

pub(super) fn deeper(depth: usize) -> Result<usize, PayloadError> {
    if depth < DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(PayloadError::TooDeep)
    }
}
