//! One client's view of one channel: what the application holds, and what may come next.
//!
//! Judges each thing it is told at once, and what it holds in the end by the surviving log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Rules,
    event::{Body, Item, Key, Mode, Position, Recovery},
    log::SurvivingLog,
    report::Class,
};

/// A publication the application holds.
#[derive(Clone, Debug)]
struct Held {
    position: Position,
    body: Option<Body>,
}

/// A value the application holds under a key.
#[derive(Clone, Debug)]
struct Value {
    offset: u64,
    body: Option<Body>,
}

/// What was found wrong.
pub type Found = Vec<(Class, String)>;

/// What the application was given of one channel.
#[derive(Debug)]
pub struct Reader {
    mode: Mode,
    keeps_state: bool,
    cursor: Option<Position>,
    /// After a loss of memory: the last position acknowledged, if any.
    forgot: Option<Option<Position>>,
    /// The offset after which delivery last began anew, as the application heard.
    begun: Option<u64>,
    /// In the order given.
    held: Vec<Held>,
    bodies: BTreeSet<Body>,
    /// What `rewind`s took back, and the epoch that took it.
    taken_back: Vec<(Held, Arc<str>)>,
    gaps: Vec<(Arc<str>, u64, u64)>,
    resets: Vec<Position>,
    values: BTreeMap<Option<Key>, Value>,
    /// Above this offset every key's newest value is held.
    values_since: u64,
    /// The pages of a snapshot so far, while it is not complete.
    snapshot: Option<BTreeSet<Key>>,
}

impl Reader {
    pub const fn new(mode: Mode, keeps_state: bool) -> Self {
        Self {
            mode,
            keeps_state,
            cursor: None,
            forgot: None,
            begun: None,
            held: Vec::new(),
            bodies: BTreeSet::new(),
            taken_back: Vec::new(),
            gaps: Vec::new(),
            resets: Vec::new(),
            values: BTreeMap::new(),
            values_since: 0,
            snapshot: None,
        }
    }

    /// The application asks for another mode; what it holds stays.
    pub const fn ask(&mut self, mode: Mode, keeps_state: bool) {
        self.mode = mode;
        self.keeps_state = keeps_state;
    }

    /// The application holds only what it acknowledged.
    pub fn forget(&mut self, acknowledged: Option<&Position>) {
        self.forgot = Some(acknowledged.cloned());
        self.cursor = None;
        self.values.clear();
        self.snapshot = None;
        self.keep(acknowledged.map_or(0, |position| position.offset));
    }

    /// Holds no publication above an offset.
    fn keep(&mut self, offset: u64) {
        self.held.retain(|held| held.position.offset <= offset);
        self.bodies = self.held.iter().filter_map(|held| held.body).collect();
    }

    fn begins_again(&mut self, position: &Position, recovery: Recovery, found: &mut Found) {
        let Some(acknowledged) = self.forgot.take() else {
            return;
        };
        if recovery != Recovery::Full {
            self.keep(0);
            return;
        }
        let same_log = |handled: &Position| handled.epoch == position.epoch;
        if !acknowledged.as_ref().is_none_or(same_log) {
            // By what followed another generation: a rewind leads to the log of the other.
            self.keep(0);
            return;
        }
        self.keep(position.offset);
        // Who never heard where its delivery began is owed what comes from there on, wherever.
        let handled = acknowledged.as_ref().map(|handled| handled.offset);
        let owed_after = handled.or(self.begun);
        if owed_after.is_some_and(|after| position.offset > after) {
            let text = format!("handled {acknowledged:?}, delivery goes on after {position:?}");
            found.push((Class::Skip, text));
        }
    }

    pub fn began(&mut self, position: &Position, recovery: Recovery, found: &mut Found) {
        self.snapshot = None;
        self.begins_again(position, recovery, found);
        match (&self.cursor, recovery) {
            (None, recovery) => {
                self.values_since = position.offset;
                if recovery != Recovery::Full {
                    self.begun = Some(position.offset);
                }
            }
            (Some(cursor), Recovery::Reset) => {
                self.resets.push(cursor.clone());
                self.begun = Some(position.offset);
                self.held.clear();
                self.bodies.clear();
                self.values.clear();
                self.values_since = position.offset;
            }
            (Some(cursor), Recovery::Full | Recovery::Fresh) if cursor == position => {}
            (Some(cursor), Recovery::Full | Recovery::Fresh) => {
                let ahead = cursor.epoch == position.epoch && position.offset > cursor.offset;
                let class = if ahead {
                    Class::Skip
                } else {
                    Class::PositionBack
                };
                found.push((
                    class,
                    format!("held {cursor:?}, delivery begins after {position:?}"),
                ));
            }
        }
        self.cursor = Some(position.clone());
    }

    pub fn message(
        &mut self,
        position: &Position,
        body: Option<Body>,
        key: Option<Key>,
        found: &mut Found,
    ) {
        self.judge_next(position, body, found);
        self.cursor = Some(position.clone());
        self.bodies.extend(body);
        self.held.push(Held {
            position: position.clone(),
            body,
        });
        let offset = position.offset;
        let value = self.values.entry(key).or_insert(Value { offset: 0, body });
        if value.offset < offset {
            *value = Value { offset, body };
        }
    }

    fn judge_next(&self, position: &Position, body: Option<Body>, found: &mut Found) {
        if body.is_some_and(|body| self.bodies.contains(&body)) {
            found.push((Class::Repeat, format!("{position:?} again: body {body:?}")));
            return;
        }
        let Some(cursor) = &self.cursor else {
            found.push((
                Class::Foreign,
                format!("{position:?} before any delivery began"),
            ));
            return;
        };
        if position.epoch != cursor.epoch {
            found.push((
                Class::PositionBack,
                format!("held {cursor:?}, then {position:?}, no signal"),
            ));
        } else if position.offset <= cursor.offset {
            found.push((
                Class::Inversion,
                format!("held {cursor:?}, then {position:?}"),
            ));
        } else if self.mode == Mode::Every && position.offset != cursor.offset + 1 {
            found.push((Class::Skip, format!("held {cursor:?}, then {position:?}")));
        }
    }

    pub fn gap(&mut self, from: u64, to: u64, found: &mut Found) {
        let Some(cursor) = &mut self.cursor else {
            found.push((Class::WrongGap, format!("{from}..={to} before any ok")));
            return;
        };
        if from != cursor.offset + 1 || to < from {
            found.push((
                Class::WrongGap,
                format!("gap {from}..={to} behind {cursor:?}"),
            ));
        }
        self.gaps.push((Arc::clone(&cursor.epoch), from, to));
        cursor.offset = to;
        self.values_since = self.values_since.max(to);
        self.snapshot = None;
    }

    pub fn rewind(&mut self, epoch: &Arc<str>, to: u64, lost: u64, found: &mut Found) {
        let Some(cursor) = &mut self.cursor else {
            found.push((Class::WrongRewind, format!("to {to} before any ok")));
            return;
        };
        // In mode latest the cursor may have passed values that were overtaken.
        let adds_up = match self.mode {
            Mode::Every => to.checked_add(lost) == Some(cursor.offset),
            Mode::Latest => lost > 0 || to >= cursor.offset,
        };
        if !adds_up || *epoch == cursor.epoch {
            found.push((
                Class::WrongRewind,
                format!("rewind to {to}, lost {lost}, epoch {epoch} behind {cursor:?}"),
            ));
        }
        *cursor = Position {
            epoch: Arc::clone(epoch),
            offset: to,
        };
        while self
            .held
            .last()
            .is_some_and(|held| held.position.offset > to)
        {
            if let Some(held) = self.held.pop() {
                if let Some(body) = held.body {
                    self.bodies.remove(&body);
                }
                self.taken_back.push((held, Arc::clone(epoch)));
            }
        }
        self.values.retain(|_, value| value.offset <= to);
        self.snapshot = None;
    }

    pub fn page(&mut self, items: &[Item], more: bool, found: &mut Found) {
        let cut = self.cursor.as_ref().map_or(0, |cursor| cursor.offset);
        let keys = self.snapshot.get_or_insert_default();
        for item in items {
            if item.position.offset > cut {
                let text = format!("{:?} in a snapshot of {cut}", item.position);
                found.push((Class::WrongState, text));
            }
            keys.insert(item.key);
            let offset = item.position.offset;
            let (body, key) = (item.body, Some(item.key));
            let value = self.values.entry(key).or_insert(Value { offset, body });
            if value.offset <= offset {
                *value = Value { offset, body };
            }
        }
        if !more && let Some(keys) = self.snapshot.take() {
            // A key the snapshot leaves out was removed.
            self.values.retain(|key, value| {
                key.is_none_or(|key| keys.contains(&key)) || value.offset > cut
            });
            self.values_since = 0;
        }
    }

    pub fn live(&self, offset: u64, found: &mut Found) {
        let held = self.cursor.as_ref().map(|cursor| cursor.offset);
        if held != Some(offset) && (self.mode == Mode::Every || held > Some(offset)) {
            found.push((Class::Skip, format!("live at {offset}, held {held:?}")));
        }
    }

    /// Judges what is held when all is over and everybody is live.
    pub fn end(&self, log: &SurvivingLog, rules: Rules, found: &mut Found) {
        let at_head = self
            .cursor
            .as_ref()
            .is_some_and(|cursor| cursor.offset == log.head && log.epoch() == Some(&*cursor.epoch));
        if !at_head {
            let text = format!(
                "held {:?}, the head is {} of {:?}",
                self.cursor,
                log.head,
                log.epoch()
            );
            found.push((Class::NotLive, text));
        }
        for held in &self.held {
            let offset = held.position.offset;
            if log.is_minted_after(offset, &held.position.epoch) {
                let text = format!("{:?} is held, it was minted later", held.position);
                found.push((Class::Phantom, text));
                continue;
            }
            if offset < log.first && offset <= log.head {
                continue;
            }
            let is_there = offset <= log.head
                && log.entries.get(&offset).is_none_or(|there| {
                    there.is_none() || held.body.is_none() || *there == held.body
                });
            if !is_there {
                let text = format!("{:?} body {:?} is held", held.position, held.body);
                found.push((Class::Phantom, text));
            }
        }
        self.end_signals(log, rules, found);
        self.end_values(log, found);
    }

    /// Whether what it was told to be lost is.
    fn end_signals(&self, log: &SurvivingLog, rules: Rules, found: &mut Found) {
        let survived =
            |position: &Position| log.epoch_at(position.offset) == Some(&*position.epoch);
        for (held, by) in &self.taken_back {
            let text = format!("{:?} survived and was taken back by {by}", held.position);
            if survived(&held.position) {
                found.push((Class::WrongRewind, text));
            }
        }
        for (epoch, from, to) in &self.gaps {
            let text = format!(
                "gap {from}..={to} of {epoch}, history begins at {}",
                log.first
            );
            // A copy that lagged had dropped less of its history.
            let is_kept = !rules.may_lose_tails && *to >= log.first;
            if is_kept && log.epoch_at(*to) == Some(&**epoch) {
                found.push((Class::WrongGap, text));
            }
        }
        for position in &self.resets {
            if self.mode == Mode::Every && survived(position) {
                let text = format!("{position:?} was on the log and was reset");
                found.push((Class::NeedlessReset, text));
            }
        }
    }

    fn end_values(&self, log: &SurvivingLog, found: &mut Found) {
        let Some(state) = &log.state else { return };
        if self.mode == Mode::Every && !self.keeps_state {
            return;
        }
        if self.keeps_state && self.values_since > 0 && self.cursor.is_some() {
            let text = format!("no snapshot since {}", self.values_since);
            found.push((Class::WrongState, text));
        }
        for (key, (offset, body)) in state {
            let held = self.values.get(&Some(*key));
            let is_owed = *offset > self.values_since;
            if is_owed && held.is_none_or(|held| held.body != Some(*body)) {
                let text = format!("{key:?} is body {body} at {offset}, held {held:?}");
                found.push((Class::WrongState, text));
            }
        }
        for (key, held) in &self.values {
            let Some(key) = key else { continue };
            // Nobody is told of a blank that had the publication.
            let is_blanked = log.entries.get(&held.offset) == Some(&None);
            if held.body.is_some() && !state.contains_key(key) && !is_blanked {
                let text = format!("{key:?} was removed, held {held:?}");
                found.push((Class::WrongState, text));
            }
        }
    }
}
