//! What the dedup window remembers of a publication with an id: hashes, never names.
//!
//! The same for every broker. Pure; called where a publication is made.

use aws_lc_rs::digest;
use tidewire_protocol::Payload;

use super::Publish;

/// The hashes of one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Of the id and who published.
    pub id: [u8; 16],
    /// Of everything the publication says.
    pub body: [u8; 16],
}

impl Fingerprint {
    /// None: it has no id.
    pub(crate) fn of(publish: &Publish) -> Option<Self> {
        let id = publish.id.as_ref()?;
        let mut who = digest::Context::new(&digest::SHA256);
        part(&mut who, Some(publish.publisher.as_bytes()));
        part(&mut who, Some(id.as_str().as_bytes()));
        Some(Self {
            id: half(who.finish()),
            body: body(publish),
        })
    }
}

fn body(publish: &Publish) -> [u8; 16] {
    let mut what = digest::Context::new(&digest::SHA256);
    let (kind, data) = match &publish.payload {
        None => (0, None),
        Some(Payload::Json(data)) => (1, Some(data)),
        Some(Payload::Bytes(data)) => (2, Some(data)),
    };
    what.update(&[kind, u8::from(publish.delete)]);
    part(&mut what, data.map(|data| &data[..]));
    for name in [&publish.key, &publish.event] {
        part(
            &mut what,
            name.as_ref().map(|name| name.as_str().as_bytes()),
        );
    }
    part(
        &mut what,
        publish
            .ttl_ms
            .map(u64::to_le_bytes)
            .as_ref()
            .map(|ttl| &ttl[..]),
    );
    half(what.finish())
}

fn part(context: &mut digest::Context, bytes: Option<&[u8]>) {
    let len = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
    context.update(&len.to_le_bytes());
    context.update(bytes.unwrap_or_default());
}

/// 128 bits of a hash nobody can collide on purpose are enough for one channel's window.
fn half(digest: digest::Digest) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&digest.as_ref()[..16]);
    out
}
