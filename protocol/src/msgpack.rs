//! A pull reader of MessagePack: heads of values, and passing whole values.
//!
//! Used by the decoders and by `payload`. Never allocates, so no claimed length can cost
//! memory, and never recurses.

use rmp::Marker;

/// The bytes are not MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They end too early, or hold a byte MessagePack never uses, at this offset from where
    /// reading began.
    Syntax { at: usize },
    /// A string is not UTF-8.
    Utf8,
}

/// A place in a MessagePack message.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What a value begins with; strings, bytes and extensions come whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Head<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Below zero, or zero in a signed format.
    Signed(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// So many values follow; the number is only a claim.
    Array(u32),
    /// So many pairs follow; the number is only a claim.
    Map(u32),
    Extension,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// The bytes between `start` and here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(crate) const fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or(Broken::Syntax {
            at: self.bytes.len(),
        })?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn length8(&mut self) -> Result<usize, Broken> {
        Ok(usize::from(self.u8()?))
    }

    fn length16(&mut self) -> Result<usize, Broken> {
        Ok(usize::from(self.u16()?))
    }

    fn length32(&mut self) -> Result<usize, Broken> {
        Ok(self.u32()? as usize)
    }

    fn extension(&mut self, length: usize) -> Result<Head<'a>, Broken> {
        self.u8()?;
        self.bytes(length)?;
        Ok(Head::Extension)
    }

    fn text(&mut self, length: usize) -> Result<Head<'a>, Broken> {
        let text = std::str::from_utf8(self.bytes(length)?);
        text.map(Head::Text).or(Err(Broken::Utf8))
    }

    fn blob(&mut self, length: usize) -> Result<Head<'a>, Broken> {
        self.bytes(length).map(Head::Bytes)
    }

    /// Reads the head of the next value.
    pub(crate) fn head(&mut self) -> Result<Head<'a>, Broken> {
        let start = self.at;
        let marker = Marker::from_u8(self.u8()?);
        Ok(match marker {
            Marker::Null => Head::Nil,
            Marker::True => Head::Bool(true),
            Marker::False => Head::Bool(false),
            Marker::FixPos(value) => Head::Unsigned(value.into()),
            Marker::U8 => Head::Unsigned(self.u8()?.into()),
            Marker::U16 => Head::Unsigned(self.u16()?.into()),
            Marker::U32 => Head::Unsigned(self.u32()?.into()),
            Marker::U64 => Head::Unsigned(u64::from_be_bytes(self.array()?)),
            Marker::FixNeg(value) => Head::Signed(value.into()),
            Marker::I8 => signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Head::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Head::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => self.text(length.into())?,
            Marker::Str8 => self.length8().and_then(|length| self.text(length))?,
            Marker::Str16 => self.length16().and_then(|length| self.text(length))?,
            Marker::Str32 => self.length32().and_then(|length| self.text(length))?,
            Marker::Bin8 => self.length8().and_then(|length| self.blob(length))?,
            Marker::Bin16 => self.length16().and_then(|length| self.blob(length))?,
            Marker::Bin32 => self.length32().and_then(|length| self.blob(length))?,
            Marker::FixArray(length) => Head::Array(length.into()),
            Marker::Array16 => Head::Array(self.u16()?.into()),
            Marker::Array32 => Head::Array(self.u32()?),
            Marker::FixMap(length) => Head::Map(length.into()),
            Marker::Map16 => Head::Map(self.u16()?.into()),
            Marker::Map32 => Head::Map(self.u32()?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.length8().and_then(|length| self.extension(length))?,
            Marker::Ext16 => self.length16().and_then(|length| self.extension(length))?,
            Marker::Ext32 => self.length32().and_then(|length| self.extension(length))?,
            Marker::Reserved => return Err(Broken::Syntax { at: start }),
        })
    }

    /// Passes one value of any kind and depth and returns its bytes.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Broken> {
        let start = self.at;
        let mut wanted = 1_u64;
        while wanted > 0 {
            wanted -= 1;
            wanted += match self.head()? {
                Head::Array(length) => u64::from(length),
                Head::Map(length) => 2 * u64::from(length),
                Head::Nil
                | Head::Bool(_)
                | Head::Unsigned(_)
                | Head::Signed(_)
                | Head::Float(_)
                | Head::Text(_)
                | Head::Bytes(_)
                | Head::Extension => 0,
            };
        }
        Ok(self.since(start))
    }
}

fn signed<'a>(value: i64) -> Head<'a> {
    u64::try_from(value).map_or(Head::Signed(value), Head::Unsigned)
}

/// Appends an unsigned integer in its shortest form.
pub(crate) fn write_unsigned(value: u64, out: &mut Vec<u8>) {
    if let Ok(small) = u8::try_from(value) {
        if small >= 128 {
            out.push(Marker::U8.to_u8());
        }
        out.push(small);
    } else if let Ok(short) = u16::try_from(value) {
        out.push(Marker::U16.to_u8());
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(middle) = u32::try_from(value) {
        out.push(Marker::U32.to_u8());
        out.extend_from_slice(&middle.to_be_bytes());
    } else {
        out.push(Marker::U64.to_u8());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends an integer in its shortest form.
pub(crate) fn write_signed(value: i64, out: &mut Vec<u8>) {
    if let Ok(unsigned) = u64::try_from(value) {
        write_unsigned(unsigned, out);
    } else if let Ok(small) = i8::try_from(value) {
        if small < -32 {
            out.push(Marker::I8.to_u8());
        }
        out.extend_from_slice(&small.to_be_bytes());
    } else if let Ok(short) = i16::try_from(value) {
        out.push(Marker::I16.to_u8());
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(middle) = i32::try_from(value) {
        out.push(Marker::I32.to_u8());
        out.extend_from_slice(&middle.to_be_bytes());
    } else {
        out.push(Marker::I64.to_u8());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a double.
pub(crate) fn write_float(value: f64, out: &mut Vec<u8>) {
    out.push(Marker::F64.to_u8());
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a boolean.
pub(crate) fn write_bool(value: bool, out: &mut Vec<u8>) {
    out.push(if value { Marker::True } else { Marker::False }.to_u8());
}

/// Appends nil.
pub(crate) fn write_nil(out: &mut Vec<u8>) {
    out.push(Marker::Null.to_u8());
}

/// Appends a string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..32) => out.push(Marker::FixStr(length).to_u8()),
        Ok(length) => out.extend_from_slice(&[Marker::Str8.to_u8(), length]),
        Err(_) => write_length(text.len(), Marker::Str16, Marker::Str32, out),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends bytes.
pub(crate) fn write_blob(bytes: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend_from_slice(&[Marker::Bin8.to_u8(), length]),
        Err(_) => write_length(bytes.len(), Marker::Bin16, Marker::Bin32, out),
    }
    out.extend_from_slice(bytes);
}

/// Appends the head of an array.
pub(crate) fn write_array(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(length @ 0..16) => out.push(Marker::FixArray(length).to_u8()),
        Ok(_) | Err(_) => write_length(length, Marker::Array16, Marker::Array32, out),
    }
}

/// Appends the head of a map.
pub(crate) fn write_map(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(length @ 0..16) => out.push(Marker::FixMap(length).to_u8()),
        Ok(_) | Err(_) => write_length(length, Marker::Map16, Marker::Map32, out),
    }
}

/// Lengths of 4 GiB and more do not exist here: a message is far below them.
fn write_length(length: usize, short: Marker, long: Marker, out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(length) {
        out.push(short.to_u8());
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(long.to_u8());
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}
