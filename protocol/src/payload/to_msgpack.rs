//! Writes JSON text as MessagePack, in one pass.

use super::{PayloadError, check::deeper};
use crate::{
    json::Scanner,
    limits::INTEGER_MAX,
    msgpack::{
        write_array, write_bool, write_float, write_map, write_nil, write_signed, write_text,
    },
};

/// Appends the value in `text`, a validated payload, as MessagePack. A text that never passed
/// validation becomes nil, so that the frame around it stays whole.
pub fn write_msgpack(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if transcode(text, out).is_err() {
        debug_assert!(false, "a payload is validated where it enters");
        out.truncate(start);
        write_nil(out);
    }
}

fn transcode(text: &[u8], out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let text = std::str::from_utf8(text).or(Err(PayloadError::Utf8))?;
    let mut scanner = Scanner::new(text);
    scanner.space();
    value(&mut scanner, 0, out)
}

fn value(scanner: &mut Scanner<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    match scanner.peek() {
        Some(b'{') => object(scanner, deeper(depth)?, out)?,
        Some(b'[') => array(scanner, deeper(depth)?, out)?,
        Some(b'"') => {
            let text = scanner.string()?.decode();
            write_text(&text.ok_or(PayloadError::Surrogate)?, out);
        }
        Some(b't') => {
            scanner.word("true")?;
            write_bool(true, out);
        }
        Some(b'f') => {
            scanner.word("false")?;
            write_bool(false, out);
        }
        Some(b'n') => {
            scanner.word("null")?;
            write_nil(out);
        }
        Some(_) | None => number(scanner.number()?, out)?,
    }
    Ok(())
}

fn object(scanner: &mut Scanner<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let head = out.len();
    let mut length = 0;
    let mut more = scanner.open(b'{', b'}')?;
    while more {
        let key = scanner.key()?.decode().ok_or(PayloadError::Surrogate)?;
        write_text(&key, out);
        value(scanner, depth, out)?;
        length += 1;
        more = scanner.more(b'}')?;
    }
    put_head(write_map, length, head, out);
    Ok(())
}

fn array(scanner: &mut Scanner<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let head = out.len();
    let mut length = 0;
    let mut more = scanner.open(b'[', b']')?;
    while more {
        value(scanner, depth, out)?;
        length += 1;
        more = scanner.more(b']')?;
    }
    put_head(write_array, length, head, out);
    Ok(())
}

/// Puts the head before the elements once their number is known. Each byte moves at most once
/// per level of nesting.
fn put_head(write: fn(usize, &mut Vec<u8>), length: usize, at: usize, out: &mut Vec<u8>) {
    let end = out.len();
    write(length, out);
    let head = out.len() - end;
    out[at..].rotate_right(head);
}

/// `-0` stays a double, since only a double has it.
fn number(text: &str, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    if text != "-0"
        && let Ok(integer) = text.parse::<i64>()
        && integer.unsigned_abs() <= INTEGER_MAX
    {
        write_signed(integer, out);
        return Ok(());
    }
    let float = text.parse::<f64>().or(Err(PayloadError::Number))?;
    write_float(float, out);
    Ok(())
}
