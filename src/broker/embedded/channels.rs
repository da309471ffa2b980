//! Every channel the journal knows, by name and by life, and the epochs of those it does not
//! know. Lives under the lock of `storage`; called by everything in this folder.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use foldhash::fast::RandomState;
use tidewire_protocol::{ChannelName, Epoch, Position};

use super::{channel::Channel, names::Names};
use crate::{
    broker::Head,
    journal::{Journal, Place, Record, SECRET_BYTES},
};

/// Random bytes of an epoch: 12 characters nobody can guess.
const EPOCH_RANDOM: usize = 9;
/// Channels that get another epoch in one write: below 2 MiB with the longest names.
const RENEWED_AT_ONCE: usize = 4096;

/// The channels of a node.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(super) names: Names,
    /// By a number that this node draws, so the hash need not withstand anybody's choice.
    pub(super) lives: HashMap<u64, Channel, RandomState>,
    /// Followed channels without a life yet, with the epoch their readers were told.
    minted: HashMap<ChannelName, Epoch>,
    pub(super) next_life: u64,
    /// Makes the epoch of an unknown channel the same, also after a restart, until a life that
    /// has it ends by age.
    secret: [u8; SECRET_BYTES],
    /// Where the secret is written.
    pub(super) secret_record: Place,
    /// Lives whose state floor is above what their record says.
    pub(super) floors: BTreeSet<u64>,
    /// Where the sweep goes on.
    pub(super) swept: Option<ChannelName>,
}

impl Channels {
    /// None yet, with the secret that stands at `secret_record`.
    pub(super) fn new(secret: [u8; SECRET_BYTES], secret_record: Place) -> Self {
        Self {
            names: Names::default(),
            lives: HashMap::default(),
            minted: HashMap::new(),
            next_life: 1,
            secret,
            secret_record,
            floors: BTreeSet::new(),
            swept: None,
        }
    }

    /// Those of a new folder: draws the secret and writes it.
    ///
    /// # Errors
    /// There is no randomness, or the journal cannot be written.
    pub(super) fn begin_with_secret(journal: &mut Journal) -> std::io::Result<Self> {
        let mut channels = Self::new(random()?, Place::default());
        journal.begin().map_err(std::io::Error::other)?;
        channels.write_secret(journal);
        journal.commit().map_err(std::io::Error::other)?;
        Ok(channels)
    }

    /// Gives every channel another epoch, those without a life too: what the folder holds is a
    /// copy, and offsets that were minted after it was taken are minted again.
    ///
    /// # Errors
    /// There is no randomness, or the journal cannot be written.
    pub(crate) fn renew_epochs(&mut self, journal: &mut Journal) -> std::io::Result<()> {
        journal.begin().map_err(std::io::Error::other)?;
        self.secret = random()?;
        self.write_secret(journal);
        let all = self.names.range((Bound::Unbounded, Bound::Unbounded));
        for (done, (_, life)) in all.enumerate() {
            if done % RENEWED_AT_ONCE == 0 {
                journal.commit().map_err(std::io::Error::other)?;
                journal.begin().map_err(std::io::Error::other)?;
            }
            if let Some(channel) = self.lives.get_mut(&life) {
                channel.epoch = fresh_epoch()?;
                channel.write_record(journal);
            }
        }
        journal.commit().map_err(std::io::Error::other)?;
        Ok(())
    }

    /// Writes the secret at the end of the journal, where it counts from here on.
    pub(super) fn write_secret(&mut self, journal: &mut Journal) {
        journal.release(self.secret_record);
        self.secret_record = journal.push(&Record::Secret(self.secret));
        journal.retain(self.secret_record);
    }

    pub(super) fn get(&self, name: &ChannelName) -> Option<&Channel> {
        self.lives.get(&self.names.get(name)?)
    }

    pub(super) fn get_mut(&mut self, name: &ChannelName) -> Option<&mut Channel> {
        self.lives.get_mut(&self.names.get(name)?)
    }

    /// A life that exists.
    #[expect(clippy::expect_used, reason = "names and lives change together")]
    pub(super) fn life_mut(&mut self, life: u64) -> &mut Channel {
        self.lives.get_mut(&life).expect("a named life exists")
    }

    /// The epoch of a channel without a life: what its followers were told, or what anyone who
    /// asked was told.
    pub(super) fn epoch_of_unknown(&self, name: &ChannelName) -> Epoch {
        if let Some(epoch) = self.minted.get(name) {
            return epoch.clone();
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.secret);
        context.update(name.as_str().as_bytes());
        epoch(&context.finish().as_ref()[..EPOCH_RANDOM])
    }

    /// The head of a channel without a life.
    pub(super) fn head_of_unknown(&self, name: &ChannelName) -> Head {
        let epoch = self.epoch_of_unknown(name);
        Head::of_one(Position { epoch, offset: 0 }, 1, 0)
    }

    /// The head at this moment, without history that has expired by then.
    pub(super) fn head(&mut self, name: &ChannelName, journal: &mut Journal, now: u64) -> Head {
        let Some(channel) = self.get_mut(name) else {
            return self.head_of_unknown(name);
        };
        channel.trim(now, usize::MAX, journal);
        channel.head()
    }

    /// Begins to follow; answers as `head`.
    pub(super) fn follow(&mut self, name: &ChannelName, journal: &mut Journal, now: u64) -> Head {
        let head = self.head(name, journal, now);
        if let Some(channel) = self.get_mut(name) {
            channel.followed = true;
        } else {
            self.minted
                .insert(name.clone(), head.position.epoch.clone());
        }
        head
    }

    pub(crate) fn unfollow(&mut self, name: &ChannelName) {
        self.minted.remove(name);
        if let Some(channel) = self.get_mut(name) {
            channel.followed = false;
        }
    }

    /// Begins a life of a channel that has none. Its record is the caller's to write.
    pub(super) fn begin(&mut self, mut channel: Channel) {
        let life = channel.life;
        self.next_life = self.next_life.max(life + 1);
        channel.followed |= self.minted.remove(&channel.name).is_some();
        self.names.insert(channel.name.clone(), life);
        self.lives.insert(life, channel);
    }

    /// Ends a life in memory and in the journal's account.
    pub(super) fn end(&mut self, name: &ChannelName, journal: &mut Journal) -> Option<Channel> {
        let life = self.names.remove(name)?;
        self.floors.remove(&life);
        let mut channel = self.lives.remove(&life)?;
        channel.release_all(journal);
        Some(channel)
    }

    /// Ends a life that nobody can hold a position of.
    pub(super) fn expire(&mut self, name: &ChannelName, journal: &mut Journal) {
        if let Some(channel) = self.end(name, journal) {
            journal.push(&Record::Ended { life: channel.life });
            // The next life of this name must not get the same epoch.
            if channel.epoch == self.epoch_of_unknown(name) {
                let mut context = digest::Context::new(&digest::SHA256);
                context.update(&self.secret);
                self.secret.copy_from_slice(context.finish().as_ref());
                self.write_secret(journal);
            }
        }
    }
}

/// A fresh epoch.
pub(super) fn fresh_epoch() -> std::io::Result<Epoch> {
    Ok(epoch(&random::<EPOCH_RANDOM>()?))
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

#[expect(clippy::expect_used, reason = "base64url text is always a valid epoch")]
fn epoch(bytes: &[u8]) -> Epoch {
    Epoch::new(&URL_SAFE_NO_PAD.encode(bytes)).expect("base64url text is a valid epoch")
}
