//! What Redis answers and announces, as values of the seam. What makes no sense is [`Damaged`]:
//! said by name, never a panic. Called by `publish`, `read` and `worker`.

use ::redis::Value;
use bytes::Bytes;
use tidewire_protocol::{Epoch, Position};

use crate::broker::{
    Head,
    lineage::{Lineage, Parts, Segment},
};

/// Redis holds or says what none of our scripts writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis holds what is not ours: {0} cannot be read")]
pub(crate) struct Damaged(pub(crate) &'static str);

/// The fields of an answer, taken one after another.
#[derive(Debug)]
pub(crate) struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    pub(crate) fn of(answer: Value) -> Result<Self, Damaged> {
        if let Value::Array(fields) = answer {
            Ok(Self(fields.into_iter()))
        } else {
            Err(Damaged("an answer"))
        }
    }

    /// The next field; none after the last.
    pub(crate) fn next(&mut self) -> Option<Value> {
        self.0.next()
    }

    pub(crate) fn list(&mut self) -> Result<Self, Damaged> {
        Self::of(self.next().ok_or(Damaged("an answer"))?)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Damaged> {
        match self.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes.into()),
            Some(Value::SimpleString(text)) => Ok(text.into_bytes().into()),
            Some(_) | None => Err(Damaged("a text")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, Damaged> {
        String::from_utf8(self.bytes()?.into()).map_err(|_bytes| Damaged("a text"))
    }

    /// A number, as such or as digits.
    pub(crate) fn number(&mut self) -> Result<u64, Damaged> {
        match self.next() {
            Some(Value::Int(number)) => {
                u64::try_from(number).map_err(|_negative| Damaged("a number"))
            }
            Some(Value::BulkString(digits)) => number(&digits),
            Some(_) | None => Err(Damaged("a number")),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

pub(super) fn number(digits: &[u8]) -> Result<u64, Damaged> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(Damaged("a number"))
}

pub(super) fn epoch(text: &str) -> Result<Epoch, Damaged> {
    Epoch::new(text).map_err(|_invalid| Damaged("an epoch"))
}

/// `offset, epoch` of an answer.
pub(super) fn position(fields: &mut Fields) -> Result<Position, Damaged> {
    let offset = fields.number()?;
    let epoch = epoch(&fields.text()?)?;
    Ok(Position { epoch, offset })
}

/// A head and whether the channel has a log; `generation` is that of the server that answered.
pub(super) fn head(mut fields: Fields, generation: &str) -> Result<(Head, bool), Damaged> {
    let life = fields.text()?;
    let offset = fields.number()?;
    let first = fields.number()?;
    let state_floor = fields.number()?;
    let generations = fields.text()?;
    let is_known = fields.number()? == 1;
    let lineage = lineage(&life, &generations, generation, offset)?;
    let head = Head {
        position: Position {
            epoch: lineage.epoch().clone(),
            offset,
        },
        first,
        state_floor,
        lineage,
    };
    Ok((head, is_known))
}

/// The head of a life that begins.
pub(super) fn head_of_new(epoch: Epoch) -> Head {
    Head::of_one(Position { epoch, offset: 0 }, 1, 0)
}

/// The surviving log. Where its last generation is not the server's it ends with a segment in
/// which nothing was minted: so every reader meets a boundary after a failover.
fn lineage(life: &str, generations: &str, generation: &str, last: u64) -> Result<Lineage, Damaged> {
    let mut segments = Vec::new();
    let mut previous = "";
    for part in generations.split(';').filter(|part| !part.is_empty()) {
        let epoch = epoch(&format!("{life}.{part}"))?;
        let start = Parts::of(&epoch).start;
        segments.push(Segment { epoch, start });
        previous = part
            .split_once('.')
            .map_or(part, |(generation, _)| generation);
    }
    if previous != generation {
        let start = last + 1;
        let parts = Parts {
            life,
            generation,
            start,
            previous,
        };
        let epoch = parts.epoch().ok_or(Damaged("a generation"))?;
        segments.push(Segment { epoch, start });
    }
    Lineage::new(segments).ok_or(Damaged("the generations"))
}

/// What a channel of announcements says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Announcement {
    /// The log holds this entry.
    Append {
        epoch: Epoch,
        offset: u64,
        ts: u64,
        data: Bytes,
    },
    /// Another life began.
    Reset(Epoch),
    /// An entry was blanked.
    Blank(u64),
}

/// Reads `kind offset ts epoch\ndata`.
pub(super) fn announcement(mut payload: Bytes) -> Result<Announcement, Damaged> {
    let end = payload
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(Damaged("an announcement"))?;
    let line = payload.split_to(end);
    let data = payload.split_off(1);
    let line = std::str::from_utf8(&line).map_err(|_bytes| Damaged("an announcement"))?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Damaged("an announcement"));
    let kind = word()?;
    let (offset, ts) = (number(word()?.as_bytes())?, number(word()?.as_bytes())?);
    let epoch = epoch(word()?)?;
    match kind {
        "append" => Ok(Announcement::Append {
            epoch,
            offset,
            ts,
            data,
        }),
        "reset" => Ok(Announcement::Reset(epoch)),
        "blank" => Ok(Announcement::Blank(offset)),
        _ => Err(Damaged("an announcement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::lineage::Standing;

    fn row(generations: &str, last: i64) -> Fields {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let row = [
            text("0123456789"),
            Value::Int(last),
            Value::Int(1),
            Value::Int(0),
            text(generations),
            Value::Int(1),
        ];
        Fields::of(Value::Array(row.to_vec())).unwrap()
    }

    #[test]
    fn a_log_of_the_servers_generation_ends_with_it() {
        let (head, known) = head(row("00000001aaaa.1.", 7), "00000001aaaa").unwrap();
        assert!(known);
        assert_eq!(head.position.epoch.as_str(), "0123456789.00000001aaaa.1.");
        assert_eq!(head.lineage.segments().len(), 1);
    }

    #[test]
    fn after_a_failover_the_head_has_a_segment_in_which_nothing_was_minted() {
        let (head, _) = head(row("00000001aaaa.1.", 100), "00000002bbbb").unwrap();
        assert_eq!(
            head.position.epoch.as_str(),
            "0123456789.00000002bbbb.2t.00000001aaaa"
        );
        let before = Position {
            epoch: epoch("0123456789.00000001aaaa.1.").unwrap(),
            offset: 105,
        };
        assert_eq!(
            head.lineage.stand(&before, 100),
            Standing::Forked { shared: 100 }
        );
    }

    #[test]
    fn what_is_not_ours_is_an_error() {
        assert!(Fields::of(Value::Okay).is_err());
        assert!(head(row("x", 1), &"y".repeat(60)).is_err());
        for wrong in [
            "",
            "append 1 1 e",
            "append x 1 e\n",
            "append 1 1 \n",
            "other 1 1 e\n",
            "\n",
        ] {
            assert!(
                announcement(Bytes::from_static(wrong.as_bytes())).is_err(),
                "{wrong:?}"
            );
        }
        assert_eq!(
            announcement(Bytes::from_static(b"blank 4 1 e\n")),
            Ok(Announcement::Blank(4))
        );
    }
}
