//! Bodies of requests: read within a bound and parsed strictly.

use std::ops::Deref;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tidewire_protocol::ErrorCode;
use tokio::sync::SemaphorePermit;

use super::{Api, BODIES_KIB_MAX, problem::Problem};

/// A body, which counts against the node's room for bodies until it is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

impl Deref for Held<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body of at most `limit` bytes, as soon as the node has room for it.
pub(super) async fn read(api: &Api, body: Body, limit: usize) -> Result<Held<'_>, Problem> {
    // A body that does not say its size, or says one over the limit, may grow to the limit.
    let told = body.size_hint().exact();
    let bytes = told.map_or(limit, |told| {
        usize::try_from(told).map_or(limit, |told| told.min(limit))
    });
    let kib = u32::try_from(bytes.div_ceil(1024).min(BODIES_KIB_MAX)).unwrap_or(u32::MAX);
    let room = api.room.acquire_many(kib).await;
    let room = room.map_err(|_closed| Problem::new(ErrorCode::Unavailable, "the node stops"))?;
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(Held {
            bytes: collected.to_bytes(),
            _room: room,
        }),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(
            ErrorCode::TooLarge,
            format!("the body is over {limit} bytes"),
        )),
        Err(error) => Err(Problem::bad(format!("the body ended early: {error}"))),
    }
}

/// Parses a body. Unknown and repeated members are refused.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::bad(format!(
            "the body is not UTF-8 from byte {} on",
            error.valid_up_to()
        ))
    })?;
    serde_json::from_str(text)
        .map_err(|error| Problem::bad(format!("the body is not what it must be: {error}")))
}

/// A JSON value as it stands in the body; unlike for an `Option`, `null` is a value.
pub(super) fn raw<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A list of at most `MAX` elements; a longer one is refused before it is in memory.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements::<T, MAX>(std::marker::PhantomData))
    }
}

struct Elements<T, const MAX: usize>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a list of 1 to {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(element);
        }
        if list.is_empty() {
            return Err(A::Error::invalid_length(0, &self));
        }
        Ok(Bounded(list))
    }
}
