//! A pull reader of JSON text: finds where values begin and end and checks their grammar.
//!
//! Used by the decoders and by `payload`. Never builds a tree, never recurses, and leaves what
//! JSON's grammar allows but the protocol refuses (lone surrogates, huge numbers) to its callers.

use std::borrow::Cow;

/// The text is not JSON from this byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Offset in bytes from where reading began.
    pub(crate) at: usize,
}

/// A place in a JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A string as it stands in the text, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn broken<T>(&self) -> Result<T, Broken> {
        Err(Broken { at: self.at })
    }

    /// The text between `start` and here.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next byte, not consumed.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space.
    pub(crate) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Consumes `byte` if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes `byte`, which must come next.
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.take(byte) {
            Ok(())
        } else {
            self.broken()
        }
    }

    /// Enters an object or array whose opening byte comes next; false: it is empty and was left.
    pub(crate) fn open(&mut self, open: u8, close: u8) -> Result<bool, Broken> {
        self.expect(open)?;
        self.space();
        Ok(!self.take(close))
    }

    /// After an element: true when another follows, false when the container was left.
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Broken> {
        self.space();
        if self.take(b',') {
            self.space();
            return Ok(true);
        }
        self.expect(close)?;
        Ok(false)
    }

    /// A key with its colon; the value comes next.
    pub(crate) fn key(&mut self) -> Result<Text<'a>, Broken> {
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(key)
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Broken> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) | None => return self.broken(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        let digits = match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) | None => return self.broken(),
        };
        let hex = self.text.as_bytes().get(self.at + 2..self.at + 2 + digits);
        if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return self.broken();
        }
        self.at += 2 + digits;
        Ok(())
    }

    /// A number, as its text.
    pub(crate) fn number(&mut self) -> Result<&'a str, Broken> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'-') {
                self.take(b'+');
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            self.broken()
        } else {
            Ok(())
        }
    }

    /// `true`, `false` or `null`.
    pub(crate) fn word(&mut self, word: &str) -> Result<(), Broken> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.broken();
        }
        self.at += word.len();
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), Broken> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) | None => self.number().map(|_| ()),
        }
    }

    /// Passes one value of any depth and returns its text. Its nesting costs one bit a level.
    pub(crate) fn value(&mut self) -> Result<&'a str, Broken> {
        let start = self.at;
        let mut nesting = Nesting::default();
        'value: loop {
            match self.peek() {
                Some(b'{') => {
                    if self.open(b'{', b'}')? {
                        nesting.push(true);
                        self.key()?;
                        continue 'value;
                    }
                }
                Some(b'[') => {
                    if self.open(b'[', b']')? {
                        nesting.push(false);
                        continue 'value;
                    }
                }
                Some(_) | None => self.scalar()?,
            }
            while let Some(object) = nesting.top() {
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    continue 'value;
                }
                nesting.pop();
            }
            return Ok(self.since(start));
        }
    }
}

/// Which containers are open, one bit each; the first 64 without an allocation.
#[derive(Default)]
struct Nesting {
    depth: usize,
    bits: u64,
    outer: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(object);
        self.depth += 1;
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }
}

impl<'a> Text<'a> {
    /// What the string says; none when it holds half of a surrogate pair.
    pub(crate) fn decode(self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let mut text = String::with_capacity(self.raw.len());
        for unit in self.chars() {
            text.push(unit?);
        }
        Some(Cow::Owned(text))
    }

    /// Whether every escaped surrogate has its other half.
    pub(crate) fn is_well_formed(self) -> bool {
        !self.escaped || self.chars().all(|unit| unit.is_some())
    }

    /// Orders strings by what they say, however it is escaped.
    pub(crate) fn compare(self, other: Self) -> std::cmp::Ordering {
        if self.escaped || other.escaped {
            self.chars().cmp(other.chars())
        } else {
            self.raw.cmp(other.raw)
        }
    }

    fn chars(self) -> Chars<'a> {
        Chars(self.raw.chars())
    }
}

/// The characters of a string, escapes resolved; none for half of a surrogate pair.
struct Chars<'a>(std::str::Chars<'a>);

impl Chars<'_> {
    fn unit(&mut self) -> u32 {
        self.0
            .by_ref()
            .take(4)
            .fold(0, |unit, digit| unit << 4 | digit.to_digit(16).unwrap_or(0))
    }

    fn escaped_unicode(&mut self) -> Option<char> {
        let high = self.unit();
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high);
        }
        let mut rest = Self(self.0.as_str().strip_prefix("\\u")?.chars());
        let low = rest.unit();
        if !(0xDC00..0xE000).contains(&low) {
            return None;
        }
        self.0 = rest.0;
        char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    }
}

impl Iterator for Chars<'_> {
    type Item = Option<char>;

    fn next(&mut self) -> Option<Option<char>> {
        let plain = self.0.next()?;
        if plain != '\\' {
            return Some(Some(plain));
        }
        Some(match self.0.next()? {
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => self.escaped_unicode(),
            other => Some(other),
        })
    }
}

/// Whether a byte of a string cannot stand there as it is: quote, backslash, control character.
const fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// How many bytes come before the first that ends a string or is escaped in one. Looks at 16 at a
/// time without a branch for each, which compiles to vector instructions.
fn plain(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<16>();
    let mut passed = 0;
    for chunk in chunks {
        let any = chunk
            .iter()
            .fold(0, |any, byte| any | u8::from(is_special(*byte)));
        if any != 0 {
            break;
        }
        passed += chunk.len();
    }
    let rest = &bytes[passed..];
    let special = rest.iter().position(|byte| is_special(*byte));
    passed + special.unwrap_or(rest.len())
}

/// Appends `text` as a JSON string with its quotes.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (as_it_is, special) = rest.split_at(plain(rest));
        out.extend_from_slice(as_it_is);
        let Some((byte, behind)) = special.split_first() else {
            break;
        };
        write_escape(*byte, out);
        rest = behind;
    }
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}
